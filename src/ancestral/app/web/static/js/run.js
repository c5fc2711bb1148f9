// One run: previews through time, health in plain words, curves, and what can be done with it.
import { encode, follow, get, plain, post } from "./api.js";
import { lines, smooth } from "./chart.js";
import { confirmed, count, duration, failed, field, h, plural, select, toast } from "./dom.js";
import { Previews } from "./previews.js";
import { badge } from "./runs.js";
import { sentence } from "./home.js";

export async function page({ parts, signal }) {
  const id = parts[0];
  const run = await waited(id, signal);
  if (run.saved) return saved(run);
  const rows = [];
  let state = run;
  const head = h(".row.gap"), actions = h(".row"), bar = h("progress", { max: 1, value: run.progress, "aria-label": "Progress of the training" });
  const left = h("p.small.soft.num", { role: "status", style: { minHeight: "20px" } });
  const health = h("ul.stack.tight", { style: { padding: 0 }, "aria-live": "polite" });
  const curve = h(".chart"), menu = h("span");
  const notes = h("pre", { tabindex: "0" }), said = h("details", { hidden: true }, h("summary", {}, "What the training said"), notes);
  const facts = h("div");
  const previews = new Previews(id);
  let shown = "total", at = `${run.sampled} ${run.job?.id} ${run.job?.state}`;

  function names() {
    const found = new Set();
    for (const row of rows) for (const key of Object.keys(row)) if (/\/|^rate$|^lr$/.test(key) && !/^health\/.*\//.test(key)) found.add(/^health\/[^/]+$|^live\//.test(key) || !key.includes("/") ? key : key.split("/").slice(1).join("/"));
    return [...found];
  }
  function draw() {
    const curves = curvesOf(rows, shown);
    if (!rows.length) curve.replaceChildren(h(".empty", {}, h("p", {}, "No measurements yet.")));
    else if (curve.querySelector(".empty")) curve.replaceChildren();
    if (curves.length) lines(curve, curves, { x: "steps", y: word(shown), log: shown !== "lr" && curves.every((c) => c.y.every((v) => v > 0)), legend: curves.filter((c) => c.legend !== false).length > 1 }).catch(failed);
    const known = names();
    if (known.length && menu.dataset.text !== known.join()) {
      menu.dataset.text = known.join();
      menu.replaceChildren(select(known.map((n) => ({ value: n, label: word(n) })), shown, (v) => { shown = v; draw(); }, { "aria-label": "Curve", style: { width: "auto", maxWidth: "190px" } }));
    }
  }
  let due = null;
  const soon = () => { due ||= setTimeout(() => { due = null; if (curve.isConnected) draw(); else if (!signal.aborted) soon(); }, 200); };

  function tell() {
    head.replaceChildren(h("h1", {}, state.name), badge(state.problem ? "unreadable" : state.state));
    const trains = live() && state.state !== "waiting";
    const last = rows.at(-1);
    const progress = progressOf(state, last);
    bar.value = progress;
    bar.hidden = !trains && progress >= 1;
    const rest = progress > 0.02 && trains && last ? `, about ${duration((last.seconds * (1 - progress)) / progress)} left` : "";
    left.textContent = state.state === "waiting" ? "Waits in the queue" : trains && !last ? "Reading the data and building the network" : last ? `${plural(last.step, "step")} in ${duration(last.seconds)}${rest}` : "";
    const key = `${state.state} ${state.sampled} ${state.report} ${run.sampler}`;
    if (actions.dataset.key !== key) { actions.dataset.key = key; actions.replaceChildren(...buttons({ ...state, sampler: run.sampler }, refresh)); }
    const failure = state.job?.state === "failed" && state.job.error ? [{ tone: "bad", text: sentence(state.job.error) }] : [];
    const sentences = [...failure, ...(state.health || [])], text = JSON.stringify(sentences);
    if (health.dataset.text !== text) {
      health.dataset.text = text;
      health.replaceChildren(...sentences.map((s) => h(`li.said.${s.tone}`, {}, s.text)));
    }
    const lines_ = state.job?.notes || [];
    said.hidden = !lines_.length;
    notes.textContent = lines_.join("\n");
    facts.replaceChildren(factsOf(run, state, last));
  }
  async function refresh() {
    try {
      const { spec, form, recipe_text, quality, sampler } = await get(`api/runs/${encode(id)}`, signal);
      Object.assign(run, { spec, form, recipe_text, quality, sampler }); // what changes all the time comes with the events
      tell();
    } catch (error) { failed(error); }
  }

  const live = () => ["running", "stopping", "waiting", "elsewhere"].includes(state.state);
  previews.update(run.previews, live());
  tell();
  draw();
  follow(`api/runs/${encode(id)}/events`, {
    begin: () => { rows.length = 0; },
    reset: () => { rows.length = 0; },
    rows: (more) => { rows.push(...more); soon(); tell(); },
    previews: (steps) => { if (!run.spec) refresh(); previews.update(steps, live()); },
    state: (now) => {
      state = { ...state, ...now };
      previews.update(previews.steps, live());
      tell();
      const done = `${now.sampled} ${now.job?.id} ${now.job?.state}`; // a command that ends leaves a sampler or a quality
      if (done !== at) { at = done; refresh(); }
    },
    lost: () => { left.textContent = "The studio does not answer; trying again. Trainings go on."; },
  }, signal);
  window.addEventListener("theme", draw, { signal });
  signal.addEventListener("abort", () => previews.halt());

  return [
    h(".top", {}, head, actions),
    h(".stack.tight", { style: { marginBottom: "20px" } }, bar, left),
    h(".split", {},
      h("section.card", {}, h("h2", {}, "Samples of fixed seeds through the training"), previews.element),
      h(".stack", {},
        h("section.card", {}, h("h2", {}, "Health"), health),
        h("section.card", {}, h(".row.between", { style: { marginBottom: "8px" } }, h("h2", {}, "Curves"), menu), curve),
        h("section.card.stack.tight", {}, h("h2", {}, "About"), facts, said,
          run.recipe_text ? h("details", {}, h("summary", {}, "All settings"), h("pre", { tabindex: "0" }, run.recipe_text)) : null))),
  ];
}

// A run that has just been started has no folder yet.
async function waited(id, signal) {
  for (;;) {
    if ((await get("api/runs", signal)).some((run) => run.id === id)) return get(`api/runs/${encode(id)}`, signal);
    const job = (await get("api/queue", signal)).find((other) => other.run === id);
    if (!job || ["failed", "stopped"].includes(job.state)) throw new Error(job?.error || `There is no run ${id} in the folders of this studio.`);
    document.querySelector("main").replaceChildren(h("h1", { class: "wait" }, job.state === "waiting" ? `${id} waits in the queue` : "Reading the data and building the network"));
    await new Promise((resolve) => setTimeout(resolve, 400));
  }
}

const word = (name) => ({ total: "loss", lr: "learning rate", rate: "samples per second", grad_norm: "norm of the gradient" })[name] || name.replace("health/", "health: ").replace("live/", "distance: ");

export function curvesOf(rows, name, { label = "", color } = {}) {
  const keys = [...new Set(rows.flatMap((row) => Object.keys(row)))].filter((key) => key === name || key.endsWith(`/${name}`)).filter((key) => name.includes("/") || !/^(health|live)\//.test(key));
  return keys.flatMap((key, i) => {
    const points = rows.filter((row) => row[key] !== undefined && row[key] !== null);
    const x = points.map((row) => row.step), y = points.map((row) => row[key]);
    const player = key.includes("/") && !name.includes("/") ? key.split("/")[0] : "";
    const title = [label, player === "model" ? "" : player].filter(Boolean).join(" ") || word(name);
    const safe = title.replaceAll("<", "‹");
    const c = color ?? i, dash = color !== undefined && i % 2 ? "dash" : "solid"; // the players of one run share its colour
    if (y.length < 30) return [{ name: safe, safe, x, y, color: c, dash }];
    return [{ name: safe, safe, x, y, color: c, thin: true, legend: false }, { name: safe, safe, x, y: smooth(y, Math.max(5, Math.round(y.length / 20))), color: c, dash }];
  });
}

function progressOf(state, last) {
  if (!last || state.progress >= 1) return state.progress;
  const timed = /^(?:\d+(?:\.\d+)?(?:min|s|m|h|d))+$/.test(state.budget || "");
  if (!timed) {
    const steps = /^(\d+(?:\.\d+)?)(it|its|iterations|steps)$/.exec(state.budget || "");
    return steps ? Math.min(0.999, last.step / steps[1]) : state.progress;
  }
  let seconds = 0;
  for (const [, n, unit] of state.budget.matchAll(/(\d+(?:\.\d+)?)(min|s|m|h|d)/g)) seconds += n * { s: 1, m: 60, min: 60, h: 3600, d: 86400 }[unit];
  return Math.min(0.999, last.seconds / seconds);
}

function factsOf(run, state, last) {
  const spec = run.spec;
  const rows = [
    ["Model", [state.family, state.parameters ? `${count(state.parameters)} parameters` : ""].filter(Boolean).join(", ")],
    ["Data", spec ? `${spec.name}: ${spec.size.toLocaleString("en")} samples of ${spec.shape.join(" × ")}` : state.data],
    state.problem ? null : ["Controlled by", state.condition?.length ? state.condition.join(", ") : "nothing"],
    state.problem ? null : ["Time budget", state.budget],
    last?.rate ? ["Speed", `${count(last.rate)} samples per second`] : null,
    run.sampler ? ["Sampler", sentence(plain(run.sampler.split("; `ancestral tune")[0]))] : null, // the page has a button for it
    ["Quality", run.quality || "not measured yet: make the report"],
    ["Folder", state.path],
  ].filter(Boolean);
  return h("dl.facts.num", {}, rows.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

function buttons(run, refresh) {
  const tried = async (action) => { try { await action(); await refresh(); } catch (error) { failed(error); } };
  const act = (label, action, kind = "button") => {
    let busy = false;
    return h(kind, { type: "button", onclick: async () => {
      if (busy) return;
      busy = true;
      await tried(action);
      setTimeout(() => { busy = false; }, 700); // the next state of the run replaces the buttons
    } }, label);
  };
  const asks = (label, action) => h("button", { type: "button", onclick: () => tried(action) }, label); // by a dialog
  const url = `api/runs/${encode(run.id)}`;
  const live = ["running", "stopping", "waiting"].includes(run.state);
  const found = [];
  if (run.problem) return found; // its health says why
  if (live) found.push(act(run.state === "waiting" ? "Remove from the queue" : "Stop", () => post(`${url}/stop`)));
  else if (run.state !== "elsewhere") {
    if (run.progress < 1) found.push(act("Continue", () => post(`${url}/continue`), "button.primary"));
    found.push(asks("Train longer", async () => {
      const budget = h("input", { value: longer(run.budget), required: true, pattern: "[0-9.]+ ?(s|m|min|h|d|it|epochs)([0-9.]+(s|m|h))?", title: "such as 5m, 1h30m or 20000it" });
      if (await confirmed({ title: `Train ${run.name} longer`, text: `It was trained for ${run.budget.replace(/it$/, " steps")}. The training goes on from there.`, action: "Train", fields: [field("New total length", budget, "Such as 5m, 1h30m, 20000it (steps) or 50epochs.")] })) await post(`${url}/continue`, { budget: budget.value });
    }));
  }
  if (run.sampled && !live) found.push(asks("Fine-tune", async () => {
    const name = h("input", { value: `${run.name}-finetuned`, required: true }), budget = h("input", { value: "2m", required: true });
    const sources = (await get("api/sources")).built_in;
    const source = select([{ value: "", label: "the same data" }, ...sources.map((s) => ({ value: s, label: s }))], "");
    if (!await confirmed({ title: `Fine-tune ${run.name}`, text: "A new run starts from the weights of this one. For data of your own, drop them on Home and choose this run under Start from.", action: "Start", fields: [field("Data", source), field("Training time", budget), field("Name of the new run", name)] })) return;
    const job = await post("api/trainings", { ...(source.value ? { source: source.value } : { run: run.id }), budget: budget.value, name: name.value, start_from: run.id, condition: run.condition || [] });
    toast(`${job.name} is in the queue`);
    location.hash = "#/runs";
  }));
  if (run.sampled && !live && run.sampler) found.push(act(run.sampler.includes("tuned for") ? "Tune again" : "Tune the sampler", async () => { await post(`${url}/tune`); toast("The tuning is in the queue: it fits samplers of few steps to this model"); }));
  if (run.report) found.push(h("a.button", { href: `#/report?run=${encode(run.id)}` }, "Report"));
  if (run.sampled && !live) found.push(act(run.report ? "New report" : "Make the report", async () => { await post(`${url}/report`); toast("The report is in the queue: it draws samples and scores them"); }));
  if (run.sampled) found.push(h("a.button.primary", { href: `#/generate/${encode(run.id)}` }, "Generate"));
  return found;
}

function longer(budget) {
  const match = /^(\d+(?:\.\d+)?)(\D+)$/.exec(budget || "");
  return match ? `${2 * match[1]}${match[2]}` : budget || "5m";
}

function saved(run) {
  return [h(".top", {}, h(".row.gap", {}, h("h1", {}, run.name), badge("saved")), h("a.button.primary", { href: `#/generate/${encode(run.id)}` }, "Generate")),
    h("section.card", {}, h("dl.facts", {}, h("dt", {}, "Model"), h("dd", {}, run.family), h("dt", {}, "Samples"), h("dd", {}, run.spec.shape.join(" × "))), h("p.soft", { style: { marginTop: "12px" } }, "A saved model can be sampled. It has no training to show."))];
}
