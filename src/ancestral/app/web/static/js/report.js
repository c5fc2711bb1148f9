// The report of a run or of a comparison, as a page of the studio.
import { encode } from "./api.js";
import { h } from "./dom.js";

export async function page({ query }) {
  const run = query.get("run"), comparison = query.get("comparison");
  const address = run ? `api/runs/${encode(run)}/report` : `api/comparisons/${encode(comparison)}/report`;
  return [h(".top", {}, h("h1", {}, run ? `Report of ${run}` : comparison), h(".row", {}, run ? h("a.button.quiet", { href: `#/runs/${encode(run)}` }, "Back to the run") : h("a.button.quiet", { href: "#/runs" }, "All runs"), h("a.button", { href: address, download: `${run || comparison}.html` }, "Save"))),
    h("iframe.page", { src: address, title: "Report", sandbox: "allow-same-origin" })];
}
