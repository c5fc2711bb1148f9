// The theory: the claims of `ancestral verify`, a page for each family, with both sides computed on request.
import { get, post } from "./api.js";
import { failed, h } from "./dom.js";

export const FAMILIES = { vae: "variational autoencoders", gan: "adversarial networks", diffusion: "diffusion", latent: "latent diffusion", score: "score-based models" };

export async function page({ parts, signal }) {
  const wanted = parts[0] || "vae", family = wanted.split(".")[0];
  const claims = await get(`api/lab/claims?family=${encodeURIComponent(family)}`, signal);
  return [
    h(".top", {}, h("h1", {}, `Theory: ${FAMILIES[family]}`), h("a.button.quiet", { href: "#/lab" }, "Back to the lab")),
    h(".stack.wide", {},
      h("nav.chips", { "aria-label": "Families" }, Object.entries(FAMILIES).map(([name, title]) => h("a.button.chip", { href: `#/theory/${name}`, "aria-current": name === family ? "page" : null }, title))),
      h("p.soft", {}, "Each claim is an equation. The software computes both sides with the functions that train and sample. In a terminal: ", h("code", {}, `ancestral verify ${family}`), "."),
      claims.map((claim) => h("section.card.stack", { id: claim.name, "aria-label": claim.name }, h("div", {}, h("h2", { tabindex: "-1" }, claim.title), h("p.small.soft", {}, claim.name)), claimed(claim)))),
  ];
}

// After the page is in the document: the claim of the address comes into view.
export function shown() {
  const place = document.getElementById(location.hash.split("/")[2]);
  if (!place) return;
  place.scrollIntoView({ block: "start" });
  place.querySelector("h2").focus({ preventScroll: true });
}

// A claim with its derivation, its source, and a button that computes both sides.
export function claimed(claim) {
  const result = h(".stack.tight", { role: "status" });
  const button = h("button", { type: "button", onclick: async () => {
    button.disabled = true;
    result.replaceChildren(h("p.small.soft", {}, "Computing both sides"));
    try {
      result.replaceChildren(...verdict(await post(`api/lab/claims/${claim.name}`)));
    } catch (error) { result.replaceChildren(); failed(error); }
    button.disabled = false;
  } }, "Verify now");
  return [
    claim.blocks.map((block) => (block.equation ? h("pre.eq", { tabindex: "0", role: "math" }, block.equation) : h("p", {}, block.text.replaceAll("`", "")))),
    h("p.small.soft", {}, `Source: ${claim.source}. Computed by ${claim.lines.join("; ")}. In a terminal: `, h("code", {}, `ancestral verify ${claim.name}`), "."),
    h(".row", {}, button), result,
  ];
}

function verdict(found) {
  const [, ...columns] = found.header;
  return [
    h(`p.said.${found.holds ? "good" : "bad"}`, {}, `${found.holds ? "It holds" : "It does not hold"}. Both sides were computed in ${found.seconds.toFixed(1)} s.`),
    h("div", { style: { overflowX: "auto" }, tabindex: "0", role: "region", "aria-label": `Both sides of ${found.name}` },
      h("table.num.sides", {}, h("thead", {}, h("tr", {}, ["comparison", ...columns].map((name) => h("th", { scope: "col" }, name)))),
        h("tbody", {}, found.rows.map((row) => h("tr", {}, row.map((cell) => h("td", {}, cell))))))),
    found.picture ? h("img.drawn.figure", { src: found.picture, alt: `Both sides of ${found.name}: dots with two standard errors are the left side, lines are the right side` }) : null,
  ].filter(Boolean);
}
