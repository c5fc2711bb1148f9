// The screens of the lab. Each function returns the elements of one.
import { events, post } from "./api.js";
import { css, debounce, failed, field, h, select, slider, tabs } from "./dom.js";
import { Plane, curve, digits } from "./plane.js";

let drawn = JSON.parse(sessionStorage.getItem("drawn") || "[]");
let set = "moons", chosen = false;
const DRAW = "draw your own";

// The choice of the data: a built-in set, or points that are drawn in a canvas.
function source(sets, onchange, { extra = [], own = true, first = "moons" } = {}) {
  const options = [...sets.sets, ...extra, ...(own ? [DRAW] : [])];
  if (!chosen || !options.includes(set)) set = first;
  const said = h("span.help");
  const plane = new Plane({ label: "Canvas for your own points", half: 2.6, onpoint: ([x, y], moving) => {
    if (drawn.length >= 600) return;
    const spread = moving ? 0.04 : 0;
    drawn.push([x + spread * (Math.random() - 0.5), y + spread * (Math.random() - 0.5)].map((v) => Number(v.toFixed(3))));
    show();
    told();
  } });
  plane.canvas.style.maxWidth = "260px";
  const told = debounce(() => { sessionStorage.setItem("drawn", JSON.stringify(drawn)); if (drawn.length >= 3) onchange(); }, 400);
  const show = () => { plane.set([{ type: "points", points: drawn, color: css("--c1"), radius: 5 }]); said.textContent = drawn.length < 3 ? "Draw at least three points." : `${drawn.length} points.`; };
  const box = h(".stack.tight", { hidden: set !== DRAW }, plane.element, h(".row", {}, said, h("button.quiet", { type: "button", onclick: () => { drawn = []; show(); } }, "Clear")));
  const pick = select(options, set, (value) => { set = value; chosen = true; box.hidden = value !== DRAW; show(); if (value !== DRAW || drawn.length >= 3) onchange(); });
  show();
  const element = h(".stack.tight", {}, field("Data", pick), box);
  return { element, get value() { return set === DRAW ? drawn : set; }, get ready() { return set !== DRAW || drawn.length >= 3; } };
}

const legend = (items) => h("ul.legend", {}, items.map(([color, text, dot]) => h("li", {}, h(`i${dot ? ".dot" : ""}`, { style: { background: color } }), text)));
const readout = (label, value) => { const number = h(".readout", {}, value ?? "–"); const element = h("div", {}, h("span.small.soft", {}, label), number); element.set = (v) => { number.textContent = v; }; return element; };
const eq = (text) => h(".eq.row.gap", { tabindex: "0", role: "math" }, text.split(/ {4,}/).map((part) => h("span", {}, part)));

// Runs one experiment of the server at a time: a new one stops the one before.
function runner(path, signal, onstate, status) {
  let current = null;
  return async (body) => {
    current?.abort();
    const mine = (current = new AbortController());
    signal.addEventListener("abort", () => mine.abort());
    status.textContent = "Training on this machine";
    try {
      await events(path, { state: (state) => { if (!mine.signal.aborted) onstate(state); }, done: () => { if (mine === current) status.textContent += ". Done."; } }, { body, signal: mine.signal });
    } catch (error) { if (error.name !== "AbortError") { status.textContent = ""; failed(error); } }
  };
}

const themed = (signal, draw) => window.addEventListener("theme", draw, { signal });

export async function forward({ sets, signal }) {
  let data = null, at = 0, schedule = "cosine", timer = null, turn = 0;
  const plane = new Plane({ label: "The data at time t", half: 3.2 });
  const pictures = h("canvas", { role: "img", "aria-label": "Digits at time t", style: { width: "100%", imageRendering: "pixelated", borderRadius: "8px" } });
  const chart = h("canvas", { role: "img", style: { width: "100%", height: "auto" } }), what = h("p.small.soft");
  const t = readout("t"), alpha = readout("signal α(t)"), sigma = readout("noise σ(t)"), kl = readout("distance to N(0, I)");
  const time = slider({ label: "Time t", min: 0, max: 1, step: 1 / 60, value: 0, oninput: (v) => { at = Math.round(v * 60); draw(); } });
  const play = h("button.primary", { type: "button", data: { run: "1" }, onclick: () => {
    clearInterval(timer);
    at = 0;
    timer = setInterval(() => { at += 1; if (at >= 60) { at = 60; clearInterval(timer); } time.set(Number((at / 60).toFixed(3))); draw(); }, 50);
  } }, "Run the process");
  signal.addEventListener("abort", () => clearInterval(timer));
  const data_ = source(sets, () => load(), { extra: ["digits"] });
  async function load() {
    if (!data_.ready) return;
    const mine = ++turn;
    try {
      const answer = await post("api/lab/forward", { source: data_.value, schedule }, signal);
      if (mine !== turn) return;
      data = answer;
      draw();
    } catch (error) { failed(error); }
  }
  function draw() {
    if (!data) return;
    const a = data.alpha[at], s = data.sigma[at];
    const x = data.x.map((row, i) => row.map((v, j) => a * v + s * data.eps[i][j]));
    plane.element.hidden = data.kind !== "points";
    pictures.hidden = data.kind !== "digits";
    if (data.kind === "points") plane.set([{ type: "points", points: x, color: css("--c1"), radius: 3.4 }]);
    else digits(pictures, x.map((row) => row.map((v) => v / 2 + 0.5)), data.side, 6);
    curve(chart, [{ values: data.kl, color: css("--c1") }], { mark: at, low: 0, x: "time t", ends: ["0", "1"], y: "nats" });
    chart.setAttribute("aria-label", `The distance falls from ${data.kl[0].toPrecision(3)} to ${data.kl.at(-1).toPrecision(2)} nats; now ${data.kl[at].toPrecision(3)}`);
    what.textContent = `${data.what}. The dot is the present time.`;
    t.set(data.t[at].toFixed(2)); alpha.set(a.toFixed(3)); sigma.set(s.toFixed(3)); kl.set(`${data.kl[at].toPrecision(3)} nats`);
  }
  themed(signal, draw);
  await load();
  return [h("section.card.stack", {}, eq("x_t = α(t) x + σ(t) ε,    ε ~ N(0, I)"), h(".controls", {}, data_.element, field("Schedule", select(sets.schedules, schedule, (v) => { schedule = v; load(); })), time, h(".act", {}, play))),
    h(".panels", {}, h("section.card", {}, h("h2", {}, "q(x_t)"), plane.element, pictures), h("section.card.stack", {}, h(".readouts", {}, t, alpha, sigma, kl), chart, what))];
}

export async function score({ sets, signal }) {
  let level = 0.5, found = null, seed = 0, turn = 0;
  const ways = [];
  let share = 1, frame = null;
  const plane = new Plane({ label: "Density and score at the noise level; Enter starts paths at the cursor", half: 3, help: "Click anywhere: paths of Langevin dynamics, of the reverse SDE and of the ODE begin there.", onpoint: (at, moving) => { if (!moving) start(at); } });
  const data = source(sets, () => { ways.length = 0; load(); });
  const noise = slider({ label: "Noise level u = σ/α", min: -3.9, max: 1.1, step: 0.05, value: Math.log(level), digits: 2, show: Math.exp, read: Math.log, oninput: debounce((v) => { level = Math.exp(v); said(); ways.length = 0; load(); }, 30) });
  const u = readout("u"), longest = readout("longest arrow");
  const said = () => { u.set(level.toPrecision(2)); };
  async function load() {
    if (!data.ready) return;
    const mine = ++turn;
    try {
      const answer = await post("api/lab/field", { source: data.value, level }, signal);
      if (mine !== turn) return; // a later level has been asked for
      found = answer;
      longest.set(found.largest.toPrecision(3));
      draw();
    } catch (error) { failed(error); }
  }
  async function start(at) {
    if (!data.ready) return;
    try {
      const found_ = await post("api/lab/paths", { source: data.value, level, start: at, seed: seed++ }, signal);
      ways.push({ at, ...found_ });
      if (ways.length > 4) ways.shift();
      share = 0;
      cancelAnimationFrame(frame);
      const grow = () => { share = Math.min(1, share + 0.03); draw(); if (share < 1 && !signal.aborted) frame = requestAnimationFrame(grow); };
      if (matchMedia("(prefers-reduced-motion: reduce)").matches) { share = 1; draw(); } else grow();
    } catch (error) { failed(error); }
  }
  function draw() {
    if (!found) return;
    const layers = [{ type: "heat", values: found.density, cells: found.cells }, { type: "points", points: found.points, color: css("--text"), radius: 1.6, alpha: 0.45 }, { type: "arrows", at: found.at, arrows: found.arrows, scale: 0.32 }];
    ways.forEach((way, i) => {
      const part = i === ways.length - 1 ? share : 1;
      layers.push({ type: "path", points: way.langevin, color: css("--c5"), width: 1.4, share: part, end: false }, { type: "path", points: way.sde, color: css("--c4"), share: part }, { type: "path", points: way.ode, color: css("--c2"), width: 3.4, share: part }, { type: "mark", at: way.at });
    });
    plane.set(layers);
  }
  themed(signal, draw);
  said();
  await load();
  const run = h("button.primary", { type: "button", data: { run: "1" }, onclick: () => start([2 * Math.cos(2.4 * seed), 2 * Math.sin(2.4 * seed)]) }, "Start paths");
  return [h("section.card.stack", {}, eq("score(y) = ∇ log p_u(y) = (E[x | y] − y) / u²"), h(".controls", {}, data.element, noise, h(".act", {}, run)), h(".readouts", {}, u, longest)),
    h("section.card.stack", { style: { maxWidth: "680px" } }, plane.element, legend([["rgb(var(--density))", "density at this level"], ["var(--text)", "data", true], ["var(--c5)", "Langevin, stays at the level"], ["var(--c4)", "reverse SDE, to the data"], ["var(--c2)", "ODE, to the data"]]))];
}

export async function readings({ sets, signal }) {
  let target = "v", t = 0.5, last = null;
  const names = { eps: "ε, the noise", x: "x, the data", score: "score", v: "v = α ε − σ x" };
  const planes = {}, errors = {};
  const panels = Object.keys(names).map((name) => {
    planes[name] = new Plane({ label: `The reading ${name}`, half: 2.6 });
    errors[name] = h("p.small.soft.num", {}, "");
    return h("section.card", {}, h("h2", {}, names[name]), planes[name].element, errors[name]);
  });
  const status = h("p.small.soft.num", { role: "status", style: { minHeight: "20px" } });
  const data = source(sets, () => go());
  const run = runner("api/lab/readings", signal, (state) => { last = state; status.textContent = `Step ${state.step} of ${state.steps}, loss ${state.loss.toFixed(3)}`; draw(); }, status);
  function draw() {
    if (!last) return;
    for (const [name, form] of Object.entries(last.forms)) {
      const most = Math.max(...form.exact.map(([a, b]) => Math.hypot(a, b)), 1e-9), scale = name === "x" ? 0.32 : 0.42 / most * (name === "score" ? 1.4 : 1);
      planes[name].set([{ type: "arrows", at: last.at, arrows: form.exact, scale, color: css("--c2"), alpha: 0.95, width: 5 }, { type: "arrows", at: last.at, arrows: form.own, scale, alpha: 1, width: 1.6 }]);
      errors[name].textContent = `relative error ${(100 * form.error).toFixed(0)} %`;
    }
  }
  const go = () => { if (data.ready) run({ source: data.value, target, t }); };
  themed(signal, draw);
  queueMicrotask(go);
  const time = slider({ label: "Time t", min: 0.05, max: 0.95, step: 0.05, value: t, digits: 2, oninput: debounce((v) => { t = v; go(); }, 300) });
  return [h("section.card.stack", {}, eq("ε = (x_t − α x)/σ      score = −ε/σ      v = α ε − σ x"), h(".controls", {}, data.element, field("The network learns", select(Object.keys(names).map((n) => ({ value: n, label: names[n] })), target, (v) => { target = v; go(); })), time, h(".act", {}, h("button.primary", { type: "button", data: { run: "1" }, onclick: go }, "Train again"))), status, legend([["var(--c2)", "exact"], ["var(--text)", "read from the one network"]])),
    h(".panels", { style: { gridTemplateColumns: "repeat(auto-fit, minmax(min(340px, 100%), 1fr))" } }, panels)];
}

export async function gan({ sets, signal }) {
  let objective = "non-saturating", penalty = 0, turns = 2, last = null, shown = "non-saturating";
  const plane = new Plane({ label: "The critic as a landscape, with samples", half: 2.6 });
  const chart = h("canvas", { role: "img", "aria-label": "Mean length of both gradients", style: { width: "100%", height: "auto" } });
  const status = h("p.small.soft.num", { role: "status", style: { minHeight: "20px" } });
  const history = { minimax: [], "non-saturating": [] };
  const sizes = { minimax: readout("minimax"), "non-saturating": readout("non-saturating") }, certain = readout("mean D of the samples");
  const data = source(sets, () => go(), { first: "gaussians" });
  const run = runner("api/lab/gan", signal, (state) => {
    last = state;
    for (const name of Object.keys(history)) { history[name].push(Math.log10(Math.max(state.strength[name], 1e-6))); sizes[name].set(state.strength[name].toPrecision(2)); }
    certain.set(state.certain.toFixed(2));
    status.textContent = `Step ${state.step} of ${state.steps}`;
    draw();
  }, status);
  function draw() {
    if (!last) return;
    const most = Math.max(...last.arrows[shown].map(([a, b]) => Math.hypot(a, b)), 1e-9);
    plane.set([{ type: "two", values: last.critic, cells: last.cells }, { type: "points", points: last.samples, color: css("--text"), radius: 3.2, alpha: 0.9 }, { type: "arrows", at: last.samples.slice(0, last.arrows[shown].length), arrows: last.arrows[shown], scale: Math.min(0.5 / most, 12), color: css("--c1"), width: 2.4, alpha: 1 }]);
    curve(chart, [{ values: history.minimax, color: css("--c2") }, { values: history["non-saturating"], color: css("--c1") }], { length: last.steps / 20 + 1, x: "steps of the training", ends: ["0", String(last.steps)], y: "length of the gradient", text: (v) => String(Number((10 ** v).toPrecision(2))) });
  }
  const go = () => { for (const name of Object.keys(history)) history[name] = []; if (data.ready) run({ source: data.value, objective, penalty, turns }); };
  themed(signal, draw);
  queueMicrotask(go);
  return [h("section.card.stack", {}, eq("minimax: −D/2 ∇l(x)      non-saturating: −(1 − D)/2 ∇l(x)      D = σ(l)"),
    h(".controls", {}, data.element, field("Objective", select(["minimax", "non-saturating", "relativistic"], objective, (v) => { objective = v; go(); })), slider({ label: "Critic updates", min: 1, max: 5, step: 1, value: turns, oninput: debounce((v) => { turns = Math.round(v); go(); }, 400), help: "For each update of the generator." }), slider({ label: "Gradient penalty", min: 0, max: 1, step: 0.05, value: penalty, digits: 2, oninput: debounce((v) => { penalty = v; go(); }, 400) }), h(".act", {}, h("button.primary", { type: "button", data: { run: "1" }, onclick: go }, "Train again"))), status),
    h(".panels", {}, h("section.card.stack", {}, h(".row.between", {}, h("h2", {}, "Critic and samples"), tabs("Gradient that is drawn", [{ value: "minimax", label: "minimax" }, { value: "non-saturating", label: "non-saturating" }], shown, (v) => { shown = v; draw(); })), plane.element, legend([["#009e73", "D near 1: looks real"], ["#d55e00", "D near 0: looks generated"], ["var(--text)", "samples", true], ["var(--c1)", "where the gradient moves them"]])),
      h("section.card.stack", {}, h("h2", {}, "Length of the generator's gradient"), h(".readouts", {}, sizes.minimax, sizes["non-saturating"], certain), chart, legend([["var(--c2)", "minimax"], ["var(--c1)", "non-saturating"]]), h("p.small.soft", {}, "On a logarithmic scale, through training. With more updates the critic becomes certain (D near 0): the minimax gradient vanishes and the non-saturating one does not.")))];
}

export async function vae({ signal }) {
  let beta = 1, last = null, here = [0, 0], busy = false, next = null;
  const history = { reconstruction: [], kl: [] };
  const plane = new Plane({ label: "The latent plane; arrow keys walk in it", half: 3, help: "Move over the plane, or walk with the arrow keys.", onpoint: (at) => walk(at) });
  plane.follow = true;
  plane.canvas.addEventListener("pointermove", (event) => {
    const box = plane.canvas.getBoundingClientRect();
    walk([((event.clientX - box.left) / box.width * 2 - 1) * 3, (1 - (event.clientY - box.top) / box.height * 2) * 3]);
  });
  const one = h("canvas", { role: "img", "aria-label": "The digit at this point", width: 8, height: 8, style: { width: "160px", imageRendering: "pixelated", borderRadius: "8px" } });
  const map = h("canvas", { role: "img", "aria-label": "Digits on a grid of the latent plane", style: { width: "100%", borderRadius: "8px" } });
  const chart = h("canvas", { role: "img", "aria-label": "The two terms of the ELBO", style: { width: "100%", height: "auto" } });
  const terms = { reconstruction: readout("reconstruction"), kl: readout("KL"), elbo: readout("ELBO") }, where = readout("z");
  const status = h("p.small.soft.num", { role: "status", style: { minHeight: "20px" } });
  const run = runner("api/lab/vae", signal, (state) => {
    last = state;
    history.reconstruction.push(state.reconstruction);
    history.kl.push(state.kl);
    for (const name of Object.keys(terms)) terms[name].set(`${state[name].toFixed(1)} nats`);
    status.textContent = `Step ${state.step} of ${state.steps}`;
    draw();
    walk(here);
  }, status);
  async function walk(at) {
    here = at;
    if (!last) return;
    if (busy) { next = at; return; }
    busy = true;
    try {
      const { picture } = await post("api/lab/vae/decode", { z: at.map((v) => Number(v.toFixed(3))) }, signal);
      digits(one, [picture.flat()], 8, 1, { gap: 0 });
      where.set(`(${at[0].toFixed(2)}, ${at[1].toFixed(2)})`);
      draw();
    } catch (error) { if (error.name !== "AbortError") failed(error); }
    busy = false;
    if (next) { const to = next; next = null; walk(to); }
  }
  function draw() {
    if (!last) return;
    plane.set([{ type: "colored", points: last.z, labels: last.labels, radius: 5 }, { type: "mark", at: here }]);
    digits(map, last.map, 8, last.side, { zoom: 4 });
    curve(chart, [{ values: history.reconstruction, color: css("--c1") }, { values: history.kl.map((v) => -v), color: css("--c2") }], { length: last.steps / 20 + 1, x: "steps of the training", ends: ["0", String(last.steps)], y: "nats" });
  }
  const go = () => { history.reconstruction = []; history.kl = []; run({ beta }); };
  themed(signal, draw);
  queueMicrotask(go);
  return [h("section.card.stack", {}, eq("log p(x) ≥ E_q [log p(x | z)] − KL(q(z | x) ‖ p(z))"), h(".controls", {}, slider({ label: "β, the weight of the KL in the loss", min: 0, max: 8, step: 0.25, value: beta, oninput: debounce((v) => { beta = v; go(); }, 400) }), h(".act", {}, h("button.primary", { type: "button", data: { run: "1" }, onclick: go }, "Train again"))), status),
    h(".panels", {}, h("section.card.stack", {}, h("h2", {}, "Where held-out digits are encoded"), plane.element, legend(Array.from({ length: 10 }, (_, i) => [`var(--d${i})`, String(i), true])), h(".row.gap", {}, one, where)),
      h("section.card.stack", {}, h("h2", {}, "The two terms"), h(".readouts", {}, terms.reconstruction, terms.kl, terms.elbo), chart, legend([["var(--c1)", "E log p(x | z)"], ["var(--c2)", "−KL"]]), h("h2", {}, "What the plane decodes to"), map))];
}

export async function guidance({ sets, signal }) {
  let scale = 1, label = 0, last = null, turn = 0;
  const trail = [];
  const plane = new Plane({ label: "Samples of a class with guidance", half: 2.6 });
  const variety = readout("variety"), inside = readout("inside the class"), w = readout("w", "1");
  const chart = h("canvas", { role: "img", "aria-label": "Variety against the scale", style: { width: "100%", height: "auto" } });
  const data = source({ sets: sets.sets.filter((name) => name !== "swiss-roll") }, () => { trail.length = 0; sweep(); load(); }, { own: false });
  async function load() {
    const mine = ++turn;
    try {
      const found = await post("api/lab/guided", { source: data.value, scale, label }, signal);
      if (mine !== turn) return; // a later scale has been asked for
      last = found;
      variety.set(`${(100 * last.variety).toFixed(0)} %`); inside.set(`${(100 * last.inside).toFixed(0)} %`); w.set(scale.toFixed(1));
      draw();
    } catch (error) { failed(error); }
  }
  async function sweep() {
    const mine = data.value;
    for (let i = 0; i <= 12; i++) {
      const found = await post("api/lab/guided", { source: mine, scale: i, label }, signal).catch(() => null);
      if (!found || mine !== data.value || signal.aborted) return;
      trail[i] = found.variety;
      draw();
    }
  }
  function draw() {
    if (!last) return;
    plane.set([{ type: "points", points: last.others, color: css("--soft"), radius: 2, alpha: 0.35 }, { type: "points", points: last.samples, color: css("--c2"), radius: 3.6, alpha: 0.8 }]);
    if (trail.length) curve(chart, [{ values: [...trail].map((v) => v ?? 0), color: css("--c1") }], { length: 13, low: 0, mark: Math.min(Math.round(scale), trail.length - 1), x: "scale of guidance w", ends: ["0", "12"], y: "variety", text: (v) => `${Math.round(100 * v)} %` });
  }
  themed(signal, draw);
  load().then(sweep);
  const strength = slider({ label: "Scale of guidance w", min: 0, max: 12, step: 0.1, value: scale, oninput: debounce((v) => { scale = Math.max(0, v); load(); }, 20), help: "0 ignores the class, 1 is the class itself." });
  const run = h("button.primary", { type: "button", data: { run: "1" }, onclick: () => {
    let to = 0;
    const timer = setInterval(() => { to += 0.5; if (to > 12 || signal.aborted) return clearInterval(timer); scale = to; strength.set(to); load(); }, 350);
  } }, "Raise w");
  return [h("section.card.stack", {}, eq("x̂ = x̂(x_t) + w (x̂(x_t | c) − x̂(x_t))"), h(".controls", {}, data.element, field("Class", select([{ value: 0, label: "first half" }, { value: 1, label: "second half" }], 0, (v) => { label = Number(v); trail.length = 0; load().then(sweep); })), strength, h(".act", {}, run))),
    h(".panels", {}, h("section.card.stack", {}, h("h2", {}, "Samples from the same noise"), plane.element, legend([["var(--c2)", "samples with guidance", true], ["var(--soft)", "all data", true]])),
      h("section.card.stack", {}, h("h2", {}, "Variety falls as w grows"), h(".readouts", {}, w, variety, inside), chart, h("p.small.soft", {}, "Variety is the area that the samples cover relative to the class. Both denoisers are exact, so that nothing but guidance causes it.")))];
}

export async function latent({ signal }) {
  let z = null, samples = null, end = null, at = 0, timer = null;
  const first = new Plane({ label: "The first map: digits to latents", half: 4 }), second = new Plane({ label: "The second map: noise to latents", half: 4 });
  const pictures = h("canvas", { role: "img", "aria-label": "Decoded digits", style: { width: "100%", imageRendering: "pixelated", borderRadius: "8px" } });
  const status = h("p.small.soft.num", { role: "status", style: { minHeight: "20px" } });
  const time = slider({ label: "From noise to latents", min: 0, max: 24, step: 1, value: 0, oninput: (v) => { at = Math.round(v); draw(); } });
  time.range.disabled = true;
  const run = runner("api/lab/latent", signal, (state) => {
    if (state.stage === 1) { z = state; status.textContent = `Stage 1, the autoencoder: step ${state.step} of ${state.steps}, loss ${state.loss.toFixed(3)}`; fit(first, z.z); }
    if (state.stage === 2) { samples = state.samples; status.textContent = `Stage 2, diffusion of the latents: step ${state.step} of ${state.steps}, loss ${state.loss.toFixed(3)}`; }
    if (state.stage === 3) { end = state; time.range.disabled = false; time.range.max = state.paths.length - 1; status.textContent = "Both maps are learned"; play(); }
    draw();
  }, status);
  const fit = (plane, points) => { const sorted = points.flat().map(Math.abs).sort((a, b) => a - b); plane.half = second.half = Math.max(2.5, 1.15 * sorted[Math.floor(sorted.length * 0.99)]); };
  function play() {
    clearInterval(timer);
    at = 0;
    timer = setInterval(() => { at += 1; if (!end || at >= end.paths.length - 1) { at = end ? end.paths.length - 1 : 0; clearInterval(timer); } time.set(at); draw(); }, 120);
  }
  signal.addEventListener("abort", () => clearInterval(timer));
  function draw() {
    if (z) first.set([{ type: "colored", points: z.z, labels: z.labels, radius: 4 }]);
    const layers = z ? [{ type: "colored", points: z.z, labels: z.labels, radius: 3, alpha: 0.22 }] : [];
    if (end) {
      layers.push(...end.paths[0].map((_, i) => ({ type: "path", points: end.paths.slice(0, at + 1).map((row) => row[i]), color: css("--c1"), width: 1.6 })));
      digits(pictures, end.pictures[at], end.side, 8);
    } else if (samples) layers.push({ type: "points", points: samples, color: css("--c1"), radius: 3 });
    second.set(layers);
  }
  const go = () => { z = samples = end = null; time.range.disabled = true; run({}); };
  themed(signal, draw);
  queueMicrotask(go);
  return [h("section.card.stack", {}, eq("z = E(x),      z ~ diffusion prior,      x = D(z)"), h(".controls", {}, time, h(".row.act", {}, h("button.primary", { type: "button", data: { run: "1" }, onclick: go }, "Train again"), h("button", { type: "button", onclick: () => end && play() }, "Play the paths"))), status),
    h(".panels", { style: { gridTemplateColumns: "repeat(auto-fit, minmax(min(270px, 100%), 1fr))" } }, h("section.card.stack", {}, h("h2", {}, "First map: 64 pixels to 2 latents"), first.element, legend(Array.from({ length: 10 }, (_, i) => [`var(--d${i})`, String(i), true]))),
      h("section.card.stack", {}, h("h2", {}, "Second map: noise to latents"), second.element, legend([["var(--c1)", "samples of the diffusion model"]])),
      h("section.card.stack", {}, h("h2", {}, "Decoded"), pictures, h("p.small.soft", {}, "Each digit is a point on its way from noise. Diffusion moves 2 numbers in place of 64; the decoder does the rest.")))];
}
