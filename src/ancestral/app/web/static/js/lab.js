// The lab: the theory alive, one screen each.
import { get } from "./api.js";
import { ICONS, h, icon } from "./dom.js";
import { FAMILIES, claimed } from "./theory.js";

export const SCREENS = [
  { id: "forward", title: "The forward process", claims: ["diffusion.closed-form", "diffusion.forgetting"] },
  { id: "score", title: "The score field", claims: ["score.tweedie", "score.langevin", "score.same-marginals"] },
  { id: "readings", title: "One network, four readings", claims: ["diffusion.one-network", "score.noise", "score.is-diffusion"] },
  { id: "gan", title: "A critic as a landscape", claims: ["gan.vanishing-gradient", "gan.optimal-discriminator"] },
  { id: "vae", title: "A latent plane to walk in", claims: ["vae.elbo", "vae.gaussian-kl", "vae.beta"] },
  { id: "guidance", title: "Guidance against variety", claims: ["latent.guidance", "latent.dropped-condition"] },
  { id: "latent", title: "Latent diffusion as two maps", claims: ["latent.compute", "latent.memory"] },
];

// Arrow keys move a wide equation or table that has the focus.
const scrolls = ({ key, target }) => key.startsWith("Arrow") && target.matches(".eq, [role=region]") && target.scrollWidth > target.clientWidth;

export async function page({ parts, query, signal }) {
  const at = Math.max(0, SCREENS.findIndex((s) => s.id === parts[0]));
  const screen = SCREENS[at], lecture = query.has("show"), suffix = lecture ? "?show" : "";
  const sets = await get("api/lab/sets", signal);
  const { [screen.id]: make } = await import("./screens.js");
  const to = (i) => `#/lab/${SCREENS[(i + SCREENS.length) % SCREENS.length].id}${suffix}`;
  window.addEventListener("keydown", (event) => {
    if (event.target.matches("input, select, textarea, [role=radio], dialog *") || scrolls(event) || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "PageDown" || event.key === "n" || (event.key === "ArrowRight" && event.target.tagName !== "CANVAS")) location.hash = to(at + 1);
    else if (event.key === "PageUp" || event.key === "p" || (event.key === "ArrowLeft" && event.target.tagName !== "CANVAS")) location.hash = to(at - 1);
    else if (event.key === "f") full();
    else if (event.key === "r") document.querySelector("[data-run]")?.click();
    else if (event.key === "Escape" && lecture && !document.fullscreenElement) location.hash = `#/lab/${screen.id}`;
    else if (/^[1-7]$/.test(event.key)) location.hash = to(Number(event.key) - 1);
    else return;
    event.preventDefault();
  }, { signal });
  const full = () => {
    if (!lecture) location.hash = `#/lab/${screen.id}?show`;
    if (document.fullscreenElement) document.exitFullscreen();
    else document.documentElement.requestFullscreen?.().catch(() => {});
  };
  const list = h("ul.lab-list", { "aria-label": "Screens of the lab" }, SCREENS.map((s, i) => h("li", {}, h("a", { href: `#/lab/${s.id}`, "aria-current": i === at ? "page" : null }, `${i + 1}. ${s.title}`))));
  const [body, shown] = await Promise.all([make({ sets, signal }), theory(screen, signal)]);
  return [
    h(".top", {}, h("h1", {}, lecture ? screen.title : `Lab: ${screen.title.charAt(0).toLowerCase()}${screen.title.slice(1)}`),
      h(".row", {}, h("a.button.icon", { href: to(at - 1), "aria-label": "Previous screen", style: { border: "1px solid var(--line)", padding: "0 8px" } }, icon(ICONS.left)), h("a.button.icon", { href: to(at + 1), "aria-label": "Next screen", style: { border: "1px solid var(--line)", padding: "0 8px" } }, icon(ICONS.right)),
        h("button", { type: "button", onclick: full }, icon(ICONS.full), lecture ? "Full screen" : "Lecture"))),
    h(".lab", {}, h("nav", { "aria-label": "Lab", class: "only-desk", style: { display: "block" } }, list), h(".stack.wide", {}, body, shown,
      h("p.small.soft", {}, h("kbd", {}, "→"), " next screen, ", h("kbd", {}, "1"), " to ", h("kbd", {}, "7"), " a screen, ", h("kbd", {}, "r"), " run, ", h("kbd", {}, "f"), " full screen, ", h("kbd", {}, "Tab"), " to the controls; in a picture, arrow keys move a cursor and ", h("kbd", {}, "Enter"), " clicks."))),
  ];
}

// On a narrow window the list of screens is a row: the present one comes into view.
export function shown() {
  const list = document.querySelector(".lab-list"), now = list?.querySelector("[aria-current]");
  if (now) list.scrollLeft = now.offsetLeft - list.offsetLeft - (list.clientWidth - now.clientWidth) / 2;
}

// The claims of `ancestral verify` that a screen shows, and the pages of the theory on which they stand.
async function theory(screen, signal) {
  const claims = await Promise.all(screen.claims.map((name) => get(`api/lab/claims/${name}`, signal)));
  const families = [...new Set(screen.claims.map((name) => name.split(".")[0]))];
  return h("section.card.stack", { "aria-label": "Theory" }, h("h2", {}, "What it shows"),
    claims.map((claim) => h("div", {}, h("details", {}, h("summary", {}, claim.title), h(".stack", {}, claimed(claim))), h("a.small", { href: `#/theory/${claim.name}` }, claim.name))),
    h("p.small.soft", {}, "All claims of ", families.flatMap((family, i) => [i ? " and of " : "", h("a", { href: `#/theory/${family}` }, FAMILIES[family])]), "."));
}
