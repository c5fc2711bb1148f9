// The report of a run or of a comparison, as a page of the studio.
import { encode, get } from "./api.js";
import { h } from "./dom.js";

export async function page({ query, signal }) {
  const run = query.get("run"), comparison = query.get("comparison");
  const there = run ? (await get(`api/runs/${encode(run)}`, signal)).report : (await get("api/comparisons", signal)).some((other) => other.id === comparison);
  if (!there) throw new Error(run ? `${run} has no report yet. Its page has a button that makes one.` : `There is no comparison ${comparison} in the folders of this studio.`);
  const address = run ? `api/runs/${encode(run)}/report` : `api/comparisons/${encode(comparison)}/report`;
  let dark = []; // the rules of the report for the dark theme, which the theme of the studio decides here
  const paint = () => { for (const rule of dark) rule.media.mediaText = document.documentElement.dataset.theme === "dark" ? "all" : "not all"; };
  const frame = h("iframe.page", { src: address, title: "Report", sandbox: "allow-same-origin", onload: () => {
    const rules = [...frame.contentDocument.styleSheets].flatMap((sheet) => [...sheet.cssRules]);
    dark = rules.filter((rule) => rule.media?.mediaText.includes("prefers-color-scheme"));
    paint();
  } });
  window.addEventListener("theme", paint, { signal });
  return [h(".top", {}, h("h1", {}, run ? `Report of ${run}` : comparison), h(".row", {}, run ? h("a.button.quiet", { href: `#/runs/${encode(run)}` }, "Back to the run") : h("a.button.quiet", { href: "#/runs" }, "All runs"), h("a.button", { href: address, download: `${run || comparison}.html` }, "Save"))), frame];
}
