// The previews of a run under one slider through time, with their nearest training samples.
import { encode, get } from "./api.js";
import { ICONS, failed, h, icon, unique } from "./dom.js";
import { Samples } from "./tiles.js";

export class Previews {
  constructor(run, { onmove } = {}) {
    Object.assign(this, { run, onmove, steps: [], cache: new Map(), at: -1, latest: true, near: false });
    this.view = new Samples("preview");
    this.nearest = new Samples("nearest training sample");
    const id = unique();
    this.range = h("input", { type: "range", id, min: 0, max: 0, value: 0, "aria-label": "Time of the preview", oninput: () => this.move(Number(this.range.value), true) });
    this.play = h("button.icon", { type: "button", "aria-label": "Play the training", onclick: () => this.toggle() }, icon(ICONS.play));
    this.said = h("output.small.soft.num", { for: id, style: { minWidth: "84px", textAlign: "right" } });
    this.line = h(".timeline", {}, this.play, this.range, this.said);
    this.words = h("p.small.soft", { role: "status" });
    this.title = h("h3", { hidden: true }, "Samples");
    this.beside = h(".stack.tight", { hidden: true }, h("h3", {}, "Nearest training samples"), this.nearest.element);
    this.switch = h("input", { type: "checkbox", onchange: () => { this.near = this.switch.checked; this.neighbours(); } });
    this.element = h(".stack", {}, h(".pair", { style: { gridTemplateColumns: "minmax(0, 1fr)" } }, h(".stack.tight", {}, this.title, this.view.element), this.beside), this.line,
      (this.asks = h("label.check", {}, this.switch, "Show the nearest training sample beside each")), this.words);
    this.frame = this.element.firstChild;
  }

  // steps: those of the previews so far. live: whether more will come.
  update(steps, live = false) {
    const known = JSON.stringify([steps, steps.length > 0 || live]);
    if (known === this.known) return;
    this.known = known;
    this.steps = steps;
    this.range.max = Math.max(0, steps.length - 1);
    this.line.hidden = this.asks.hidden = !steps.length;
    if (!steps.length) {
      this.view.kind = "none";
      this.view.element.replaceChildren(h(".empty", {}, h("p", {}, live ? "The first preview appears after an eighth of the training." : "This run has no previews.")));
      return;
    }
    if (this.latest || this.at >= steps.length) this.move(steps.length - 1);
  }

  get fraction() { return this.steps.length < 2 ? 1 : this.at / (this.steps.length - 1); }

  async move(at, byHand = false, linked = false) {
    at = Math.max(0, Math.min(at, this.steps.length - 1));
    this.at = at;
    if (byHand || linked) this.latest = at === this.steps.length - 1;
    this.range.value = at;
    const step = this.steps[at];
    this.said.textContent = `step ${step.toLocaleString("en")}`;
    this.range.setAttribute("aria-valuetext", this.said.textContent);
    if (byHand && !linked) this.onmove?.(this.fraction, this);
    try {
      const samples = await this.load(step);
      if (this.steps[this.at] !== step) return;
      await this.view.show(samples, { most: 104 });
      await this.neighbours();
    } catch (error) { failed(error); }
  }

  async load(step) {
    if (!this.cache.has(step)) this.cache.set(step, await get(`api/runs/${encode(this.run)}/previews/${step}`));
    return this.cache.get(step);
  }

  async neighbours() {
    this.beside.hidden = !this.near || this.view.samples?.form !== "pixels";
    this.title.hidden = this.beside.hidden;
    this.frame.style.gridTemplateColumns = this.beside.hidden ? "minmax(0, 1fr)" : "";
    if (!this.near) { this.words.textContent = ""; if (this.view.samples) this.view.show(this.view.samples, { most: 104 }); return; }
    const step = this.steps[this.at];
    this.words.textContent ||= "Searching the training set";
    let found;
    try {
      found = this.cache.get(`near ${step}`) || await get(`api/runs/${encode(this.run)}/previews/${step}/neighbours`);
    } catch (error) { this.words.textContent = error.message; return; }
    this.cache.set(`near ${step}`, found);
    if (this.steps[this.at] !== step || !this.near) return;
    const samples = this.view.samples;
    await this.view.show(samples, { marks: found.copies, most: 104 });
    if (samples.form === "pixels") {
      await this.nearest.show(found.nearest, { most: 104 });
      [this.view, this.nearest].forEach((view, k) => view.tiles.forEach((tile, i) => {
        tile.title = `distance ${found.distances[i].toFixed(2)} to the nearest training sample (held-out data: ${found.usual.toFixed(2)})${found.copies[i] ? "; this is a copy" : ""}`;
        tile.onmouseenter = () => { this.view.tiles[i].style.outline = this.nearest.tiles[i].style.outline = "2px solid var(--accent)"; };
        tile.onmouseleave = () => { this.view.tiles[i].style.outline = this.nearest.tiles[i].style.outline = ""; };
      }));
    }
    const n = found.copies.filter(Boolean).length, median = [...found.distances].sort((a, b) => a - b)[found.distances.length >> 1];
    this.words.textContent = `${n === 0 ? "None" : n} of ${found.copies.length} samples ${n === 1 ? "is" : "are"} nearer to the training set than 99 % of held-out data are (copy rate ${(100 * found.copy_rate).toFixed(0)} %; about 1 % without copying). Median distance ${median.toFixed(2)}, of held-out data ${found.usual.toFixed(2)} standard deviations.`;
  }

  toggle() {
    if (this.timer) { this.halt(); return; }
    this.play.replaceChildren(icon(ICONS.pause));
    this.play.setAttribute("aria-label", "Pause");
    if (this.at >= this.steps.length - 1) this.move(0, true);
    this.timer = setInterval(() => {
      if (this.at >= this.steps.length - 1) this.halt();
      else this.move(this.at + 1, true);
    }, 600);
  }

  halt() {
    clearInterval(this.timer);
    this.timer = null;
    this.play.replaceChildren(icon(ICONS.play));
    this.play.setAttribute("aria-label", "Play the training");
  }
}
