// Two runs side by side: linked sliders through time, curves in one plot, and samples of equal seeds.
import { encode, events, get } from "./api.js";
import { lines } from "./chart.js";
import { failed, h, select } from "./dom.js";
import { Previews } from "./previews.js";
import { curvesOf } from "./run.js";
import { badge } from "./runs.js";
import { Samples } from "./tiles.js";

export async function page({ query, signal }) {
  const runs = await get("api/runs", signal);
  const ids = ["a", "b"].map((key, i) => query.get(key) || runs.filter((run) => !run.saved)[i]?.id);
  if (ids.some((id) => !id)) return [h("h1", {}, "Two runs side by side"), h(".card.empty", {}, h("p", {}, "There must be at least two runs."))];
  const [found, rows] = await Promise.all([Promise.all(ids.map((id) => get(`api/runs/${encode(id)}`, signal))), Promise.all(ids.map((id) => get(`api/runs/${encode(id)}/metrics`, signal)))]);
  const sides = found.map((run) => new Previews(run.id, { onmove: (share) => {
    for (const other of sides) if (other.run !== run.id) other.move(Math.round(share * (other.steps.length - 1)), true, true);
  } }));
  found.forEach((run, i) => sides[i].update(run.previews));
  const curve = h(".chart");
  const draw = () => lines(curve, found.flatMap((run, i) => curvesOf(rows[i], "total", { label: run.name, color: i })), { x: "steps", y: "loss", log: rows.flat().every((row) => !Object.entries(row).some(([k, v]) => k.endsWith("/total") && v <= 0)) }).catch(failed);
  const drawn = found.map(() => new Samples("sample"));
  const seed = h("input", { type: "number", min: 0, step: 1, value: 0, style: { width: "110px" }, "aria-label": "First seed" });
  const go = h("button.primary", { type: "button", onclick: async () => {
    go.disabled = true;
    try {
      for (const [i, run] of found.entries()) {
        await events(`api/runs/${encode(run.id)}/samples`, {
          state: (state) => (state.samples.form ? drawn[i].show(state.samples, { columns: 4 }) : null),
          done: (done) => drawn[i].show(done.samples, { columns: 4 }),
        }, { body: { request: { n: 16, seed: Number(seed.value) || 0 } }, signal });
      }
    } catch (error) { failed(error); }
    go.disabled = false;
  } }, "Draw 16 of each");
  const pick = (key, i) => select(runs.filter((run) => !run.saved).map((run) => ({ value: run.id, label: run.name })), ids[i], (value) => {
    const other = i === 0 ? { a: value, b: ids[1] } : { a: ids[0], b: value };
    location.hash = `#/pair?a=${encode(other.a)}&b=${encode(other.b)}`;
  }, { "aria-label": i ? "Right run" : "Left run" });
  queueMicrotask(() => setTimeout(draw, 50));
  window.addEventListener("theme", draw, { signal });
  signal.addEventListener("abort", () => sides.forEach((side) => side.halt()));
  const alike = found[0].spec && found[1].spec && found[0].spec.fingerprint === found[1].spec.fingerprint;
  return [h(".top", {}, h("h1", {}, "Two runs side by side"), h("a.button.quiet", { href: "#/runs" }, "All runs")),
    alike ? null : h("p.said.warn", { style: { marginBottom: "16px" } }, "These runs are of different data: their losses cannot be compared."),
    h(".stack.wide", {},
      h(".pair", {}, found.map((run, i) => h("section.card.stack", { "aria-label": run.name }, h(".row", {}, pick("ab"[i], i)), h(".row", {}, h("h2", {}, h("a", { href: `#/runs/${encode(run.id)}` }, run.name)), badge(run.state), h("span.small.soft", {}, run.family)), sides[i].element,
        h("ul.stack.tight", { style: { padding: 0 } }, (run.health || []).map((s) => h(`li.said.${s.tone}`, {}, s.text)))))),
      h("section.card", {}, h("h2", {}, "Loss"), curve),
      h("section.card.stack", {}, h(".row.between", {}, h("h2", {}, "Samples of the same seeds"), h(".row", {}, h("label.small", {}, "Seed"), seed, go)), h(".pair", {}, drawn.map((view, i) => h(".stack.tight", {}, h("h3", {}, found[i].name), view.element)))))].filter(Boolean);
}
