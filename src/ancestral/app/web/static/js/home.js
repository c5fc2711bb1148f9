// Home: drop data, see what was understood, choose a family and minutes, start.
import { encode, get, post, send } from "./api.js";
import { ICONS, choice, confirmed, count, debounce, duration, failed, field, h, icon, plural, select, slider, toggle, unique } from "./dom.js";
import { Samples } from "./tiles.js";

const FAMILIES = {
  diffusion: "Best all-round choice. Removes noise step by step.",
  vae: "Fast to train and to sample. Soft pictures, a map of latents.",
  gan: "Sharp, one step to sample. Needs watching.",
  score: "Follows the gradient of log p. Likelihoods, Langevin.",
  latent: "Diffusion in a compressed space, for larger pictures.",
};
const MINUTES = [0.5, 1, 2, 5, 10, 20, 30, 60, 120, 240];
const budgetOf = (minutes) => (minutes < 1 ? `${Math.round(minutes * 60)}s` : `${minutes}m`);
const PARALLEL = 6;
let upload; // of the page that is shown
let waiting = null; // files that were dropped on another page

// Upload files, as [[path, file], ...], and show what was understood of them.
export function take(files) {
  if (document.querySelector("main .drop")) return upload(files);
  waiting = files;
  location.hash = "#/";
}

export async function page({ query, signal }) {
  const [sources, runs] = await Promise.all([get("api/sources", signal), get("api/runs", signal)]);
  sources.runs = runs.filter((run) => run.sampled && !run.saved && !run.problem);
  const below = h(".stack.wide", { "aria-live": "polite" });
  const status = h("p.soft", { role: "status" });
  const input = h("input", { type: "file", multiple: true, hidden: true, onchange: () => upload([...input.files].map((file) => [file.name, file])) });
  const folder = h("input", { type: "file", webkitdirectory: true, hidden: true, onchange: () => upload([...folder.files].map((file) => [file.webkitRelativePath || file.name, file])) });

  const zone = h("section.drop", { "aria-label": "Your data" },
    icon(ICONS.upload),
    h("h2", {}, "Drop your data here"),
    h("p.soft", {}, "A zip or a folder of pictures (sub-folders are classes), an array (.npy, .npz), a table (.csv, .parquet), or a PNG from this studio. Nothing leaves this machine."),
    h(".row", { style: { justifyContent: "center" } },
      h("button.primary", { type: "button", onclick: () => input.click() }, "Choose a file"),
      h("button", { type: "button", onclick: () => folder.click() }, "Choose a folder")),
    input, folder);

  const examples = h(".row", {}, h("span.soft", {}, "Or try a built-in set:"),
    h(".chips", {}, sources.built_in.map((name) => h("button.chip", { type: "button", onclick: () => begin({ source: name }) }, name))));

  upload = async (files) => {
    if (!files.length) return;
    try {
      const { upload: id } = await post("api/uploads");
      let done = 0;
      const queue = [...files];
      const work = async () => {
        for (let next; (next = queue.shift()); ) {
          await send(`api/uploads/${id}/${next[0].split("/").map(encode).join("/")}`, next[1]);
          done += 1;
          status.textContent = `Uploading: ${done} of ${plural(files.length, "file")}`;
        }
      };
      status.textContent = `Uploading ${plural(files.length, "file")}`;
      await Promise.all(Array.from({ length: Math.min(PARALLEL, files.length) }, work));
      await begin({ upload: id });
    } catch (error) {
      status.textContent = "";
      failed(error);
    }
  };

  async function begin(wanted) {
    status.textContent = "Reading the data";
    below.replaceChildren();
    try {
      const data = await post("api/data", wanted, signal);
      status.textContent = "";
      below.replaceChildren(...understood(data, wanted, begin, sources, signal));
      below.querySelector("h2").focus({ preventScroll: true });
      below.scrollIntoView({ behavior: "smooth", block: "start" });
    } catch (error) {
      status.textContent = "";
      if (error.name !== "AbortError") below.replaceChildren(h("p.notice", { role: "alert" }, error.message));
    }
  }
  if (waiting) queueMicrotask(() => { upload(waiting); waiting = null; });
  if (query.get("run")) queueMicrotask(() => begin({ run: query.get("run") }));
  if (query.get("source")) queueMicrotask(() => begin({ source: query.get("source") }));
  return h(".stack.wide", {}, h("h1", {}, "From your data to new samples"), zone, examples, status, below);
}

function understood(data, wanted, begin, sources, signal) {
  const view = new Samples("training sample");
  const few = { ...data.samples };
  view.show(few, { columns: few.form === "pixels" ? Math.min(innerWidth < 680 ? 6 : 12, few.n) : undefined, captions: few.words.length ? few.words : [], most: 92 });
  const shape = data.shape.length === 3 ? `${data.shape[2]} × ${data.shape[1]} pixels, ${plural(data.shape[0], "channel")}` : data.shape.length === 1 ? plural(data.shape[0], "number") : data.shape.join(" × ");
  const facts = h("dl.facts", {},
    fact("Samples", `${data.train.toLocaleString("en")} for training, ${data.test.toLocaleString("en")} held out`),
    fact("Shape", shape),
    data.classes.length ? fact("Classes", some(data.classes.map((c) => (c.count === null ? c.name : `${c.name} (${c.count.toLocaleString("en")})`)))) : null,
    data.captions ? fact("Captions", data.captions.toLocaleString("en")) : null,
    data.boxes ? fact("Boxes", `up to ${data.boxes} a sample, of ${data.box_classes.join(", ")}`) : null,
    data.map_classes.length ? fact("Maps", data.map_classes.join(", ")) : null,
    data.channels.length ? fact(data.shape.length === 1 ? "Columns" : "Channels", some(data.channels)) : null,
    data.numbers.length ? fact("Numbers", data.numbers.join(", ")) : null);
  const size = data.shape.length === 3 && wanted.run === undefined ? field("Size of the pictures", select(
    sizes(data).map((s) => ({ value: s, label: `${s.replace("x", " × ")}${s.includes("x") ? "" : ` × ${s}`} pixels` })), wanted.size || current(data),
    (value) => begin({ ...wanted, size: value })), "Smaller pictures train faster.") : null;
  const known = h("section.card", {}, h("h2", { tabindex: "-1" }, "What was understood of ", h("b", {}, data.title)),
    h(".split", {}, view.element, h(".stack", {}, facts, size,
      data.notes.length ? h("ul.stack.tight", { style: { padding: 0 } }, data.notes.map((note) => h("li.said.good", {}, sentence(note)))) : null)));

  const state = { ...wanted, family: sources.default, budget: data.budget, condition: defaults(data) };
  const minutes = minutesOf(data.budget);
  const buys = h(".stack.tight", { role: "status" });
  const ask = debounce(async () => {
    buys.setAttribute("aria-busy", "true");
    try {
      const found = await post("api/estimates", state, signal);
      buys.replaceChildren(...bought(found));
    } catch (error) {
      if (error.name !== "AbortError") buys.replaceChildren(h("p.said.bad", {}, error.message));
    }
    buys.removeAttribute("aria-busy");
  }, 250);
  const family = choice("Family", data.families.map((f) => ({ value: f.name, title: { vae: "VAE", gan: "GAN" }[f.name] || f.name[0].toUpperCase() + f.name.slice(1), text: f.unfit ? `Not for these data: ${f.unfit}` : FAMILIES[f.name], disabled: !!f.unfit })), state.family,
    (value) => { state.family = value; state.start_from = null; const pick = start?.querySelector("select"); if (pick) pick.value = ""; ask(); });
  const nearest = MINUTES.reduce((best, m, i) => (Math.abs(Math.log(m / minutes)) < Math.abs(Math.log(MINUTES[best] / minutes)) ? i : best), 0);
  const said = h("output.badge.num", {}, duration(MINUTES[nearest] * 60));
  state.budget = budgetOf(MINUTES[nearest]);
  const timeId = unique();
  const time = h("input", { type: "range", id: timeId, min: 0, max: MINUTES.length - 1, step: 1, value: nearest, "aria-valuetext": duration(MINUTES[nearest] * 60), oninput: () => {
    state.budget = budgetOf(MINUTES[time.value]);
    said.textContent = duration(MINUTES[time.value] * 60);
    time.setAttribute("aria-valuetext", said.textContent);
    ask();
  } });
  const words = { class: "Class", text: "Text", layout: "Boxes", map: "Map", image: "Image", number: "Numbers", inpaint: "Inpainting", upscale: "Low resolution", sketch: "Sketch" };
  const conditions = data.conditions.length ? h(".field", {}, h("span.label", {}, "Control by"), h(".chips", { role: "group", "aria-label": "Control by" }, data.conditions.map((name) =>
    toggle(words[name] || name, state.condition.includes(name), (on) => {
      state.condition = on ? [...state.condition, name] : state.condition.filter((other) => other !== name);
      ask();
    }))), h("span.help", {}, "What you can ask of the model later.")) : null;
  const start = sources.runs.length ? field("Start from", select([{ value: "", label: "new weights" }, ...sources.runs.map((run) => ({ value: run.id, label: `the weights of ${run.name} (${run.family})` }))], state.start_from || "", (value) => {
    state.start_from = value || null;
    const run = sources.runs.find((other) => other.id === value);
    if (run) { state.family = run.family; family.choose(run.family); ask(); }
  }), "Fine-tuning: a run of the same family and of samples of the same shape.") : null;
  const name = h("input", { value: data.title, maxlength: 60, autocomplete: "off", spellcheck: "false" });
  const go = h("button.primary.big", { type: "button", onclick: async () => {
    go.disabled = true;
    try {
      const job = await post("api/trainings", { ...state, name: name.value.trim() || null });
      location.hash = job.state === "waiting" ? "#/runs" : `#/runs/${encode(job.name)}`;
    } catch (error) {
      go.disabled = false;
      failed(error);
    }
  } }, "Start training");
  const all = h("button", { type: "button", onclick: async () => {
    const yes = await confirmed({ title: "Train every family and compare them?", text: `Each family that fits these data trains for ${said.textContent}, one after another. A report then says which is best.`, action: "Start the comparison" });
    if (!yes) return;
    try {
      await post("api/comparisons/families", { ...state, family: null });
      location.hash = "#/runs";
    } catch (error) { failed(error); }
  } }, "Compare all families");
  ask();
  const plan = h("section.card.stack", {}, h("h2", {}, "Train a model"), h(".field", {}, h("span.label", {}, "Family"), family),
    h(".split", {}, h(".stack", {}, h(".field", {}, h(".row.between", {}, h("label", { for: timeId }, "Training time"), said), time), conditions, start, field("Name of the run", name)),
      h(".stack", {}, h("h3", {}, "What this will buy"), buys)),
    h(".row", {}, go, all));
  return [known, plan];
}

function bought(found) {
  const words = { clear: ["good", "Enough steps for clear samples."], rough: ["warn", "Samples will be rough: recognisable at best."], noise: ["bad", "Too few steps: samples will be noise."] }[found.samples];
  return [
    h(`p.said.${words[0]}`, {}, words[1]),
    h("p.small.soft.num", {}, `About ${count(found.steps)} steps, ${found.passes < 10 ? found.passes.toFixed(1) : count(found.passes)} passes through the data; clear samples need about ${count(found.needed)} steps. A network of ${count(found.parameters)} parameters. Measured on this machine just now.`),
    found.waits ? h("p.small.soft", {}, "Another command runs now. This training waits in the queue until it ends, and the estimate is for this machine without it.") : [],
    found.notes.map((note) => h("p.small.soft", {}, sentence(note))),
  ].flat();
}

const some = (names) => names.slice(0, 12).join(", ") + (names.length > 12 ? `, and ${names.length - 12} more` : "");
const fact = (name, value) => [h("dt", {}, name), h("dd", {}, value)];
export const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.?!]$/.test(text) ? "" : ".");
const current = (data) => (data.shape[1] === data.shape[2] ? `${data.shape[1]}` : `${data.shape[1]}x${data.shape[2]}`);
const sizes = (data) => [...new Set([...["8", "16", "28", "32", "48", "64", "96", "128"], current(data)])].sort((a, b) => parseInt(a) - parseInt(b));
const defaults = (data) => ["class", "text", "number"].filter((name) => data.conditions.includes(name)).slice(0, 1);
const minutesOf = (budget) => ({ s: 1 / 60, m: 1, h: 60 })[budget.at(-1)] * parseFloat(budget);
