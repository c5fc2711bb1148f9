// The frame: pages by their address, themes, and the keyboard.
import { h } from "./dom.js";
import "./drop.js";

const PAGES = {
  home: () => import("./home.js"), runs: () => import("./runs.js"), run: () => import("./run.js"), pair: () => import("./pair.js"),
  report: () => import("./report.js"), generate: () => import("./generate.js"), gallery: () => import("./gallery.js"), lab: () => import("./lab.js"),
  theory: () => import("./theory.js"),
};
const TABS = { run: "runs", pair: "runs", report: "runs", theory: "lab" };

let leave = null;
let turn = 0;

function place() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/").filter(Boolean).map(decodeURIComponent);
  let page = parts[0] || "home";
  if (page === "runs" && parts.length > 1) page = "run";
  return { page: PAGES[page] ? page : "home", parts: parts.slice(1), query: new URLSearchParams(query) };
}

async function show() {
  const mine = ++turn;
  const { page, parts, query } = place();
  leave?.abort();
  leave = new AbortController();
  for (const dialog of document.querySelectorAll("dialog")) dialog.close("no"); // it asks about the page that is left
  document.body.classList.toggle("show", page === "lab" && query.has("show"));
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.page === (TABS[page] || page)) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const module = await PAGES[page]();
  if (mine !== turn) return;
  const main = document.getElementById("main");
  try {
    const content = await module.page({ parts, query, signal: leave.signal });
    if (mine !== turn) return;
    main.replaceChildren(...[content].flat());
  } catch (error) {
    if (mine !== turn || error.name === "AbortError") return;
    main.replaceChildren(h("h1", { tabindex: "-1" }, "That did not work"), h("p.notice", { role: "alert", style: { marginTop: "16px" } }, error.message));
  }
  const title = main.querySelector("h1");
  document.title = `${title?.textContent || "studio"} · ancestral`;
  if (mine > 1 && title) { title.tabIndex = -1; title.focus({ preventScroll: true }); window.scrollTo(0, 0); }
  module.shown?.();
}

document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
  window.dispatchEvent(new Event("theme"));
});

window.addEventListener("hashchange", show);
show();
