// Generate: everything that a model can be asked for, with the samples as they come out of noise.
import { encode, events, get, send } from "./api.js";
import { ICONS, choice, debounce, failed, field, h, icon, plural, select, slider, tabs, toast, toggle } from "./dom.js";
import { boxEditor, bytesOf, canvasOf, npyOf, painter, pictureChooser, pngOf } from "./editors.js";
import { Samples } from "./tiles.js";

const COUNTS = [1, 4, 9, 16, 25, 36, 64];
let restored = null; // what a dropped picture asked for, until the page takes it

export async function restore(file) {
  try {
    const found = await send("api/restore", file, "POST");
    restored = found;
    const address = `#/generate/${encode(found.run)}`;
    if (location.hash === address) window.dispatchEvent(new HashChangeEvent("hashchange"));
    else location.hash = address;
  } catch (error) { failed(error); }
}

export async function page({ parts, signal }) {
  const runs = (await get("api/runs", signal)).filter((run) => run.sampled && !run.problem);
  if (!runs.length) return [h("h1", {}, "Generate"), h(".card.empty", { style: { marginTop: "20px" } }, h("h2", {}, "There is no trained model yet"), h("p", {}, "A model can be sampled as soon as its training has saved it."), h("a.button.primary", { href: "#/" }, "Train one"))];
  const id = parts[0] ?? runs[0].id;
  if (!runs.some((run) => run.id === id)) throw new Error(`${id} cannot be sampled: it has no weights yet, or its files are damaged.`);
  const controls = await get(`api/runs/${encode(id)}/controls`, signal);
  const before = restored?.run === id ? restored : null;
  restored = null;
  const maker = new Maker(id, controls, signal, before);
  const pick = select(runs.map((run) => ({ value: run.id, label: `${run.name} (${run.family}${run.condition?.length ? `, by ${run.condition.join(", ")}` : ""})` })), id, (value) => { location.hash = `#/generate/${encode(value)}`; }, { "aria-label": "Model" });
  return [h(".top", {}, h("h1", {}, "Generate"), h("div", { style: { flex: "0 1 420px" } }, pick)), maker.element];
}

class Maker {
  constructor(run, controls, signal, before) {
    Object.assign(this, { run, controls, signal, before });
    const request = before?.request || {}, conditions = request.conditions || {}, guidance = request.guidance || {}, edit = request.edit || {};
    this.request = request;
    this.state = {
      n: request.n ?? (request.seeds ? request.seeds.length : null) ?? 16, seed: request.seed ?? 0, conditions: { ...conditions }, scale: guidance.scale ?? null, edit: { ...edit },
      steps: request.steps ?? null, solver: request.solver ?? "", spacing: request.spacing ?? "", truncation: request.options?.truncation ?? null,
    };
    this.arrangement = before?.arrangement || {};
    this.mode = this.arrangement.walk ? "walk" : this.arrangement.across ? "grid" : "samples";
    this.view = new Samples("sample");
    this.element = this.build();
    if (before) {
      this.expected = before;
      queueMicrotask(() => this.draw());
    }
  }

  build() {
    const { controls, state } = this;
    const form = h("form.card.stack", { "aria-label": "Settings", onsubmit: (event) => { event.preventDefault(); this.draw(); } });
    const modes = [{ value: "samples", label: "Samples" }, ...(controls.settings.length > 1 ? [{ value: "grid", label: "Grid" }] : []), ...(controls.walk ? [{ value: "walk", label: "Walk" }] : [])];
    const extra = h(".stack");
    if (modes.length > 1) form.append(tabs("What to draw", modes, this.mode, (mode) => { this.mode = mode; this.extras(extra); }));
    for (const control of controls.conditions) form.append(this.condition(control));
    form.append(extra);
    const others = []; // what a walk does not use
    if (controls.edits.length) others.push(this.edits());
    form.append(...others);
    const sampler = h("details", { open: innerWidth > 900 }, h("summary", {}, "Sampler"));
    const box = h(".stack");
    sampler.append(box);
    if (controls.guided) box.append(slider({ label: "Guidance", min: 0, max: 8, step: 0.1, value: state.scale ?? controls.guidance ?? 1, oninput: (v) => { state.scale = v; }, help: "0 ignores the condition, 1 is as trained, more is sharper and less varied." }));
    if (controls.steps) {
      this.steps = slider({ label: "Steps", min: 1, max: 100, step: 1, value: this.stepsNow(), oninput: (v) => this.sample({ steps: Math.max(1, Math.round(v)) }) });
      this.sampler = h("p.help.small.soft", { role: "status" });
      const ends = controls.tuning ? [["Quick", controls.tuning.settings[0].steps], ["Best", controls.tuning.best]].map(([name, steps]) => h("button.chip", { type: "button", onclick: () => this.sample({ steps, solver: "", spacing: "" }) }, `${name}: ${plural(steps, "step")}`)) : [];
      box.append(h(".stack.tight", {}, this.steps, ends.length ? h(".chips", { role: "group", "aria-label": "Tuned samplers" }, ends) : null, this.sampler));
    }
    const byDefault = { value: "", label: controls.tuning ? "default, as tuned" : "default" };
    const fitted = Array.isArray(state.spacing) ? [{ value: "fitted", label: "fitted noise levels" }] : [];
    if (controls.solvers.length) box.append(field("Solver", (this.solver = select([byDefault, ...controls.solvers.map((s) => ({ value: s.name, label: `${s.name}: ${s.meaning}` }))], state.solver, (solver) => this.sample({ solver })))));
    if (controls.spacings.length) box.append(field("Spacing of the steps", (this.spacing = select([byDefault, ...fitted, ...controls.spacings.map((s) => ({ value: s.name, label: `${s.name}: ${s.meaning}` }))], fitted.length ? "fitted" : state.spacing, (spacing) => this.sample({ spacing })))));
    if (controls.truncation) box.append(slider({ label: "Truncation", min: 0, max: 1.5, step: 0.05, value: state.truncation ?? 1, oninput: (v) => { state.truncation = v; }, help: "1 is as trained; less is more typical and less varied." }));
    if (box.children.length) { form.append(sampler); others.push(sampler); }
    this.seed = h("input", { type: "number", min: 0, step: 1, value: state.seed, oninput: () => { state.seed = Math.max(0, Math.round(Number(this.seed.value) || 0)); } });
    others.push(h(".row", { style: { alignItems: "end", flexWrap: "nowrap" } },
      h("div.grow", {}, field("Seed", this.seed)),
      h("button.icon", { type: "button", "aria-label": "Another seed", style: { border: "1px solid var(--line)" }, onclick: () => { state.seed = Math.floor(Math.random() * 1e6); this.seed.value = state.seed; this.draw(); } }, icon(ICONS.dice)),
      (this.countField = h("div.grow", {}, field("How many", select([...new Set([...COUNTS, state.n])].sort((a, b) => a - b), state.n, (v) => { state.n = Number(v); }))))));
    form.append(others.at(-1));
    this.others = others;
    this.extras(extra);
    this.button = h("button.primary.big", { type: "submit" }, "Generate");
    this.cancel = h("button", { type: "button", hidden: true, onclick: () => this.abort?.abort() }, "Stop");
    form.append(h(".row.go", {}, this.button, this.cancel));
    this.progress = h("progress", { max: 1, value: 0, "aria-label": "Progress", style: { visibility: "hidden" } });
    this.status = h("p.small.soft.num", { role: "status", style: { minHeight: "20px" } }, "");
    this.actions = h(".row");
    const empty = h(".empty", { style: { minHeight: "320px", justifyContent: "center" } }, h("p", {}, "Press Generate. The samples appear as they come out of noise."));
    this.view.element.replaceChildren(empty);
    const result = this.result = h("section.card.stack", { "aria-label": "Samples" }, this.progress, this.status, this.view.element, this.actions);
    this.empty = empty;
    this.tellSampler();
    return h(".split.form", {}, form, result);
  }

  // The number of steps that a request without one takes.
  stepsNow() {
    const { state, controls } = this;
    return state.steps ?? (this.tuned() && controls.tuning.usual ? controls.tuning.usual : controls.usual_steps);
  }

  // Whether the samplers of `ancestral tune` are used: they are, if neither a solver nor a spacing nor a picture is chosen.
  tuned() {
    const { state, controls } = this;
    return !!controls.tuning && !state.solver && !state.spacing && !["inpaint", "upscale", "vary"].some((name) => state.edit[name]);
  }

  // Change settings of the sampler. Fitted noise levels belong to their number of steps.
  sample(changes) {
    const { state } = this;
    if (Array.isArray(state.spacing) && ("steps" in changes || "solver" in changes || changes.spacing === "")) Object.assign(state, { spacing: "", solver: "" });
    if (changes.spacing === "fitted") return;
    Object.assign(state, changes);
    if (this.solver) this.solver.value = state.solver;
    if (this.spacing) this.spacing.value = Array.isArray(state.spacing) ? "fitted" : state.spacing;
    this.tellSampler();
  }

  tellSampler() {
    const { controls } = this, steps = this.stepsNow();
    if (!this.steps) return;
    if (this.steps.value !== steps) this.steps.set(steps);
    const found = this.tuned() ? controls.tuning.settings.find((setting) => setting.steps === steps) : null;
    this.sampler.textContent = !controls.tuning ? "" : found ? `Tuned: ${found.sampler}.` : this.tuned() ? `Not tuned for ${plural(steps, "step")}. This run is tuned for ${controls.tuning.settings.map((setting) => setting.steps).join(", ")}.` : "The tuning of this run is not used with these settings.";
  }

  condition(control) {
    const { state } = this, conditions = state.conditions;
    if (control.type === "class") {
      const chosen = new Set(conditions.classes || []);
      const keep = () => { conditions.classes = [...chosen]; if (!chosen.size) delete conditions.classes; };
      if (control.names.length > 40) return field("Class", select([{ value: "", label: "any" }, ...control.names.map((n) => ({ value: n, label: n }))], [...chosen][0] || "", (v) => { chosen.clear(); if (v) chosen.add(v); keep(); }));
      return h(".field", {}, h("span.label", {}, "Class"), h(".chips", { role: "group", "aria-label": "Class" }, control.names.map((name) => toggle(name, chosen.has(name), (on) => { on ? chosen.add(name) : chosen.delete(name); keep(); }))), h("span.help", {}, "None chosen: any class. Several: the samples take them in turn."));
    }
    if (control.type === "text") {
      const area = h("textarea", { rows: 3, placeholder: "Describe the sample. One text a line.", value: (conditions.prompts || []).join("\n"), oninput: () => {
        const lines = area.value.split("\n").map((line) => line.trim()).filter(Boolean);
        if (lines.length) conditions.prompts = lines; else delete conditions.prompts;
      } });
      const ideas = h(".chips");
      get(`api/runs/${encode(this.run)}/data?n=8`).then((data) => {
        ideas.replaceChildren(...data.captions.slice(0, 4).map((text) => h("button.chip.small", { type: "button", onclick: () => { area.value = area.value ? `${area.value}\n${text}` : text; area.dispatchEvent(new Event("input")); } }, text)));
      }).catch(() => {});
      return h(".stack.tight", {}, field("Prompt", area), ideas);
    }
    if (control.type === "number") {
      const known = (conditions.numbers?.[0] || "").split(",").map((part) => part.split("=")).filter((part) => part.length === 2);
      const values = Object.fromEntries(known), single = control.numbers.length === 1;
      if (single && conditions.numbers?.[0] && !known.length) values[control.numbers[0].name] = conditions.numbers[0];
      const keep = () => {
        const set = Object.entries(values).filter(([, v]) => v !== undefined);
        if (set.length) conditions.numbers = [single ? String(set[0][1]) : set.map(([n, v]) => `${n}=${v}`).join(",")]; else delete conditions.numbers;
      };
      return h(".stack", {}, control.numbers.map((number) => {
        const range = slider({ label: number.name, min: number.low, max: number.high, step: number.step, beyond: true, value: Number(values[number.name] ?? number.mean), oninput: (v) => { values[number.name] = v; use.checked = true; keep(); } });
        const use = h("input", { type: "checkbox", checked: values[number.name] !== undefined, onchange: () => { values[number.name] = use.checked ? range.value : undefined; keep(); } });
        return h(".stack.tight", {}, range, h("label.check.small", {}, use, `Ask for this ${number.name}`));
      }));
    }
    if (control.type === "layout") {
      const editor = boxEditor(control, (boxes) => { if (boxes.length) conditions.layout = boxes; else delete conditions.layout; });
      editor.set(conditions.layout);
      return editor;
    }
    if (control.type === "map") {
      const [height, width] = control.canvas;
      const editor = painter({ label: "Map", width, height, palette: control.names.map((name, i) => ({ name, color: control.colours[i] })), onchange: (values) => {
        if (values.some((v) => v)) conditions.map = npyOf(values, [height, width]); else delete conditions.map;
      } });
      if (conditions.map?.npy) editor.set(bytesOf(conditions.map));
      return editor;
    }
    if (control.type === "sketch") {
      const [height, width] = control.canvas;
      const editor = painter({ label: "Sketch", width, height, brush: 0.02, palette: [{ name: "paper", color: [0, 0, 0] }, { name: "line", color: [255, 255, 255] }], help: "Draw the edges with the mouse, or take those of a picture below.", onchange: (values) => {
        delete conditions.image;
        conditions.others = { ...conditions.others };
        if (values.some((v) => v)) conditions.others.sketch = npyOf(Float32Array.from(values), [1, height, width]); else delete conditions.others.sketch;
        if (!Object.keys(conditions.others).length) delete conditions.others;
      } });
      const before = conditions.others?.sketch?.npy ? new Float32Array(bytesOf(conditions.others.sketch).buffer) : null;
      if (before) editor.set(Uint8Array.from(before, (v) => (v > 0.5 ? 1 : 0)));
      return h(".stack", {}, editor, pictureChooser(this.run, "Or the edges of a picture", (file) => { delete conditions.others; conditions.image = file; }, { value: conditions.image, onclear: () => { delete conditions.image; } }));
    }
    if (control.type === "image") return pictureChooser(this.run, "Picture", (file) => { conditions.image = file; }, { value: conditions.image, onclear: () => { delete conditions.image; }, column: "image" });
    const input = h("input", { placeholder: "a number or a word", oninput: () => {
      const text = input.value.trim();
      conditions.others = { ...conditions.others };
      if (text) conditions.others[control.name] = Number.isFinite(Number(text)) ? Number(text) : text; else delete conditions.others[control.name];
    } });
    return field(control.name, input);
  }

  edits() {
    const { controls, state } = this, [height, width] = controls.shape.slice(1);
    const box = h(".stack");
    const words = { inpaint: "Repaint a part", upscale: "Enlarge", vary: "Vary" };
    const first = ["inpaint", "upscale", "vary"].find((name) => state.edit[name]) || "";
    const show = (name) => {
      if (name !== first || this.touched) state.edit = {};
      this.touched = true;
      this.tellSampler();
      if (name === "") return box.replaceChildren();
      if (name === "inpaint") {
        const mask = painter({ label: "Part to repaint", width, height, palette: [{ name: "kept", color: [0, 0, 0] }, { name: "new", color: [86, 180, 233] }], help: "Paint the part that should be new, and hold Shift to erase; or use arrow keys, Space and Backspace.", onchange: (values) => { state.edit.mask = pngOf(width, height, (i) => (values[i] ? [255, 255, 255] : [0, 0, 0])); } });
        const take = (file, canvas) => {
          state.edit.inpaint = file;
          this.tellSampler(); // an edit does not use the tuning
          mask.under(canvas);
          if (!state.edit.mask) { mask.set(Uint8Array.from({ length: width * height }, (_, i) => (i % width >= width / 2 ? 1 : 0))); state.edit.mask = pngOf(width, height, (i) => (i % width >= width / 2 ? [255, 255, 255] : [0, 0, 0])); }
        };
        box.replaceChildren(pictureChooser(this.run, "Picture", take, { preview: false }), mask);
        if (state.edit.inpaint) canvasOf(state.edit.inpaint).then((canvas) => mask.under(canvas));
        if (state.edit.mask) canvasOf(state.edit.mask).then((canvas) => {
          const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
          if (canvas.width === width && canvas.height === height) mask.set(Uint8Array.from({ length: width * height }, (_, i) => (data[4 * i] > 127 ? 1 : 0)));
        });
      } else if (name === "vary") {
        state.edit.strength ??= 0.5;
        box.replaceChildren(pictureChooser(this.run, "Picture", (file) => { state.edit.vary = file; this.tellSampler(); }, { value: state.edit.vary }), slider({ label: "Strength", min: 0, max: 1, step: 0.05, value: state.edit.strength, oninput: (v) => { state.edit.strength = v; }, help: "0 gives the picture itself, 1 a new sample." }));
      } else {
        const factor = [4, 2, 7, 3].find((f) => width % f === 0 && height % f === 0) || 1;
        const small = h("canvas", { width: width / factor, height: height / factor, style: { width: "96px", imageRendering: "pixelated" }, role: "img", "aria-label": "The small picture" });
        box.replaceChildren(pictureChooser(this.run, "Picture, of which a small copy is enlarged", (file, canvas) => {
          const context = small.getContext("2d");
          context.imageSmoothingQuality = "high";
          context.drawImage(canvas, 0, 0, small.width, small.height);
          state.edit.upscale = { file: small.toDataURL("image/png").split(",")[1] };
          this.tellSampler();
        }), small);
        if (state.edit.upscale) canvasOf(state.edit.upscale).then((canvas) => small.getContext("2d").drawImage(canvas, 0, 0, small.width, small.height));
      }
    };
    const pick = choice("Begin with a picture", [{ value: "", label: "No" }, ...controls.edits.map((name) => ({ value: name, label: words[name] }))], first, show, "chip");
    show(first);
    const details = h("details", { open: !!first }, h("summary", {}, "Begin with a picture"), h(".stack", {}, pick, box));
    return details;
  }

  extras(box) {
    const { controls } = this;
    this.countField.hidden = this.mode !== "samples";
    for (const element of this.others) element.hidden = this.mode === "walk";
    if (this.mode === "samples") { box.replaceChildren(); this.arrangement = {}; return; }
    if (this.mode === "walk") {
      const seeds = h("input", { value: (this.arrangement.walk || [0, 1, 2, 0]).join(", "), "aria-label": "Seeds of the walk" });
      const read = () => { this.arrangement = { walk: seeds.value.split(/[\s,]+/).filter(Boolean).map(Number), steps: steps.value }; };
      const steps = slider({ label: "Pictures between two seeds", min: 2, max: 24, step: 1, value: this.arrangement.steps || 10, oninput: () => read() });
      seeds.addEventListener("input", read);
      box.replaceChildren(field("Walk through the seeds", seeds, "A film that leads from each sample to the next."), steps);
      read();
      return;
    }
    const usual = { seed: "0, 1, 2, 3", class: (controls.conditions.find((c) => c.type === "class")?.names || []).slice(0, 5).join(", "), guidance: "0, 1, 2, 4", steps: controls.tuning ? controls.tuning.settings.map((setting) => setting.steps).join(", ") : "2, 5, 10, 20", solver: controls.solvers.slice(0, 4).map((s) => s.name).join(", "), spacing: controls.spacings.map((s) => s.name).join(", "), truncation: "0.3, 0.6, 1", strength: "0.2, 0.5, 0.8" };
    const side = (key, fallback) => {
      const known = this.arrangement[key];
      const values = h("input", { value: known ? known.values.join(", ") : usual[fallback], "aria-label": `Values ${key}` });
      const name = select(controls.settings, known?.name || fallback, (v) => { values.value = usual[v] || ""; read(); }, { "aria-label": `Setting ${key}` });
      values.addEventListener("input", () => read());
      return { name, values, element: h(".field", {}, h("span.label", {}, key === "across" ? "Across" : "Down"), h(".row", { style: { flexWrap: "nowrap" } }, h("span", { style: { width: "116px", flex: "none" } }, name), values)) };
    };
    const has = (n) => controls.settings.includes(n);
    const one = side("across", has("guidance") ? "guidance" : has("steps") ? "steps" : controls.settings[0]);
    const two = side("down", has("class") ? "class" : "seed");
    const split = (text) => text.split(",").map((part) => part.trim()).filter(Boolean);
    const read = () => { this.arrangement = { across: { name: one.name.value, values: split(one.values.value) }, down: { name: two.name.value, values: split(two.values.value) } }; };
    box.replaceChildren(one.element, two.element, h("p.small.soft", {}, "One sample in each cell, all of the seed below unless the seed is a side."));
    read();
  }

  body() {
    const { state } = this, request = { seed: state.seed };
    if (this.mode === "samples") request.n = state.n;
    if (Object.keys(state.conditions).length) request.conditions = state.conditions;
    const guided = Object.keys(state.conditions).length || (this.mode === "grid" && [this.arrangement.across?.name, this.arrangement.down?.name].includes("class"));
    const inherited = { ...(this.request.guidance || {}) };
    delete inherited.scale;
    if (guided && state.scale !== null) request.guidance = { ...inherited, scale: state.scale };
    else if (Object.keys(inherited).length) request.guidance = inherited;
    if (Object.keys(state.edit).some((name) => name !== "strength")) request.edit = state.edit;
    if (state.steps !== null) request.steps = state.steps;
    if (state.solver) request.solver = state.solver;
    if (state.spacing) request.spacing = state.spacing;
    const options = { ...(this.request.options || {}) };
    if (state.truncation !== null) options.truncation = state.truncation;
    if (Object.keys(options).length) request.options = options;
    for (const name of ["precision", "batch"]) if (this.request[name] !== undefined) request[name] = this.request[name];
    if (this.request.conditions?.sweep && this.before) request.conditions = { ...request.conditions, sweep: this.request.conditions.sweep };
    if (this.expected) return { request: this.expected.request, arrangement: this.expected.arrangement };
    if (this.mode === "samples" && state.conditions.prompts) request.n = Math.max(1, Math.round(state.n / state.conditions.prompts.length));
    return { request, arrangement: this.mode === "samples" ? {} : this.arrangement };
  }

  async draw() {
    if (this.busy) return;
    this.busy = true;
    this.abort = new AbortController();
    this.signal.addEventListener("abort", () => this.abort.abort());
    const expected = this.expected;
    const body = this.body();
    this.expected = null;
    this.button.disabled = true;
    this.cancel.hidden = false;
    this.progress.style.visibility = "visible";
    this.progress.value = 0;
    this.actions.replaceChildren();
    this.status.textContent = "Preparing the model";
    if (innerWidth <= 900) this.result.scrollIntoView({ block: "start", behavior: "smooth" }); // it stands below the form
    let total = 0, columns, cells = null, labels = [];
    try {
      await events(`api/runs/${encode(this.run)}/samples`, {
        begin: (begin) => {
          total = begin.n;
          columns = begin.across ? begin.columns : undefined;
          if (begin.across) { cells = { across: begin.across, down: begin.down }; this.grid(cells); }
          labels = begin.labels || [];
        },
        state: async (state) => {
          this.status.textContent = `Step ${state.done} of ${state.total}`;
          this.progress.value = state.done / state.total;
          if (state.samples.form) await this.view.show(state.samples, { most: 128 });
        },
        cell: async (cell) => {
          this.progress.value = (cell.index + 1) / total;
          this.status.textContent = `${cell.index + 1} of ${total} cells`;
          await cells.views[cell.index].show(cell.samples, { columns: 1, most: 128 });
        },
        progress: (now) => { if (now.n > 16) { this.progress.value = now.ready / now.n; this.status.textContent = `${now.ready} of ${plural(now.n, "sample")}`; } },
        done: async (done) => {
          if (!cells) {
            const captions = done.samples.n <= 64 && labels.length > 1 ? Array.from({ length: done.samples.n }, (_, i) => labels[i % labels.length]) : [];
            if (done.film) this.film(done);
            else await this.view.show(done.samples, { columns: this.mode === "walk" ? undefined : wide(done), captions, most: 128 });
          }
          const evaluations = done.nfe ? `, ${plural(done.nfe, "evaluation")} of the network each` : "";
          this.status.textContent = `${plural(done.samples.n, this.mode === "walk" ? "picture" : "sample")} in ${done.seconds < 0.1 ? "less than 0.1" : done.seconds < 10 ? done.seconds.toFixed(1) : Math.round(done.seconds)} s${evaluations}`;
          if (expected) {
            const same = done.pixels === expected.pixels;
            this.actions.append(h(`p.said.${same ? "good" : "warn"}`, { style: { width: "100%" }, data: { restored: same } }, same ? "Restored: these pixels are those of the picture, to the last bit." : expected.exact ? "The settings are restored, but the pixels differ: the picture was changed, or drawn on another device." : "The settings are restored. The weights of this run are not those that drew the picture, so the pixels differ."));
          }
          this.actions.append(...this.after(done));
        },
      }, { body, signal: this.abort.signal });
    } catch (error) {
      this.status.textContent = error.name === "AbortError" ? "Stopped" : "";
      if (error.name !== "AbortError") {
        if (this.view.kind === "") this.view.element.replaceChildren(this.empty);
        this.actions.replaceChildren(h("p.notice", { role: "alert", style: { width: "100%" } }, error.message));
      }
    }
    this.busy = false;
    this.button.disabled = false;
    this.cancel.hidden = true;
    this.progress.style.visibility = "hidden";
  }

  grid(cells) {
    cells.views = [];
    this.view.kind = "grid";
    const room = Math.min(720, this.view.element.clientWidth - 90) - 12 * cells.across.length;
    const width = Math.max(40, Math.min(128, Math.floor(room / cells.across.length)));
    const rows = cells.down.map((label) => h("tr", {}, h("th", { scope: "row" }, label), cells.across.map(() => {
      const view = new Samples("sample");
      cells.views.push(view);
      view.element.style.minHeight = view.element.style.minWidth = `${width}px`;
      return h("td", { style: { width: `${width + 12}px`, padding: "4px", border: 0 } }, view.element);
    })));
    this.view.element.replaceChildren(h("div", { style: { overflowX: "auto" }, tabindex: "0", role: "region", "aria-label": "Grid of samples" }, h("table.cells", { style: { width: "auto" } }, h("thead", {}, h("tr", {}, h("td", { style: { border: 0 } }), cells.across.map((label) => h("th", { scope: "col", style: { textAlign: "center", border: 0 } }, label)))), h("tbody", {}, rows))));
  }

  film(done) {
    this.view.kind = "film";
    this.view.element.replaceChildren(h(done.samples.form === "pixels" ? "img" : "img.figure", { src: done.film, alt: "A film that walks between the samples of the seeds", style: { width: "min(320px, 100%)", imageRendering: "pixelated" } }));
  }

  after(done) {
    const heart = h("button", { type: "button", "aria-pressed": "false", onclick: async () => {
      try {
        const { favourite } = await (await fetch(`api/gallery/${done.id}/favourite`, { method: "POST" })).json();
        heart.setAttribute("aria-pressed", favourite);
        heart.firstChild.style.fill = favourite ? "currentColor" : "";
        toast(favourite ? "Added to the favourites of the gallery" : "Removed from the favourites");
      } catch (error) { failed(error); }
    } }, icon(ICONS.heart), "Favourite");
    heart.classList.add("button");
    return [heart, h("a.button", { href: done.png, download: `${this.run}-${done.id}.png` }, icon(ICONS.down), "Save PNG"), done.film ? h("a.button", { href: done.film, download: `${this.run}-${done.id}.gif` }, icon(ICONS.down), "Save film") : null,
      h("p.small.soft", { style: { width: "100%" } }, "The PNG carries its settings: drop it on any page of the studio, and it is drawn again.")].filter(Boolean);
  }
}

// Columns that show several classes in turn: as many rounds beside each other as fit.
const wide = (done) => (done.columns && done.columns <= 8 ? done.columns * Math.max(1, Math.min(Math.floor(8 / done.columns), Math.ceil(Math.sqrt(done.samples.n) / done.columns))) : undefined);
