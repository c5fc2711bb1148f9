// Runs: all runs in the folders, the queue, and comparisons.
import { encode, get, post } from "./api.js";
import { count, css, duration, failed, h } from "./dom.js";
import { cut, extent, scatter } from "./tiles.js";

export const STATES = {
  running: ["live", "training"], stopping: ["live", "stopping"], waiting: ["", "waiting"], finished: ["good", "finished"],
  stopped: ["warn", "stopped"], failed: ["bad", "failed"], unreadable: ["bad", "cannot be read"], elsewhere: ["live", "training elsewhere"], saved: ["", "saved model"],
};

export function badge(state) {
  const [tone, word] = STATES[state] || ["", state];
  return h(`span.badge${tone ? `.${tone}` : ""}`, {}, word);
}

export async function page({ signal }) {
  const list = h("ul.cards"), queue = h("section", { "aria-label": "Queue" }), pages = h("section", { "aria-label": "Comparisons" });
  const chosen = new Set();
  const compare = h("button", { type: "button", disabled: true, onclick: () => {
    const [a, b] = [...chosen];
    location.hash = `#/pair?a=${encode(a)}&b=${encode(b)}`;
  } }, "Show side by side");
  const report = h("button", { type: "button", disabled: true, onclick: async () => {
    try { await post("api/comparisons", { runs: [...chosen] }); await refresh(); } catch (error) { failed(error); }
  } }, "Compare in a report");
  const hint = h("p.small.soft", { hidden: true }, "Tick two runs to see them side by side, or several to compare them in a report.");
  const update = () => { compare.disabled = chosen.size !== 2; report.disabled = chosen.size < 2; };
  const cards = new Map();

  async function refresh() {
    const [runs, jobs, comparisons] = await Promise.all([get("api/runs", signal), get("api/queue", signal), get("api/comparisons", signal)]);
    if (!runs.length) {
      list.replaceChildren(h("li", { style: { gridColumn: "1 / -1" } }, h(".card.empty", {}, h("h2", {}, "No runs yet"), h("p", {}, "Train your first model: it takes two minutes."), h("a.button.primary", { href: "#/?source=digits" }, "Start with handwritten digits"))));
    } else {
      const order = runs.map((run) => {
        const text = JSON.stringify([run.state, run.step, run.preview, run.progress]);
        let card = cards.get(run.id);
        if (!card || card.text !== text) { card = { text, element: cardOf(run, chosen, update) }; cards.set(run.id, card); }
        return card.element;
      });
      if (order.some((element, i) => list.children[i] !== element) || list.children.length !== order.length) list.replaceChildren(...order);
    }
    hint.hidden = runs.filter((run) => !run.saved).length < 2;
    const open = jobs.filter((job) => ["waiting", "running", "stopping"].includes(job.state));
    const last = jobs.find((job) => !open.includes(job)), failedJobs = last?.state === "failed" ? [last] : []; // until another command ends
    const text = JSON.stringify([open, failedJobs]);
    if (queue.dataset.text !== text) {
      queue.dataset.text = text;
      queue.replaceChildren(...(open.length || failedJobs.length ? [h(".card.stack.tight", {}, h("h2", {}, "Queue"), [...open].reverse().concat(failedJobs).map((job) => jobRow(job, refresh)))] : []));
    }
    pages.replaceChildren(...(comparisons.length ? [h(".card.stack.tight", {}, h("h2", {}, "Comparisons"), comparisons.map((c) => h("a", { href: `#/report?comparison=${encode(c.id)}` }, c.title)))] : []));
  }
  await refresh();
  const timer = setInterval(() => refresh().catch(() => {}), 2000);
  signal.addEventListener("abort", () => clearInterval(timer));
  return [h(".top", {}, h("h1", {}, "Runs"), h(".row", {}, compare, report, h("a.button.primary", { href: "#/" }, "New training"))), h(".stack.wide", {}, queue, hint, list, pages)];
}

function jobRow(job, refresh) {
  const words = { train: "Training", report: "Report of", compare: "Comparison", tune: "Tuning of" }[job.command] || job.command;
  return h(".row.between", { style: { padding: "6px 0", borderTop: "1px solid var(--line)" } },
    h("div.grow", {}, h("b", {}, `${words} ${job.run}`), " ", badge(job.state === "running" && job.command !== "train" ? "working" : job.state),
      h("details", {}, h("summary", {}, "Settings and messages"), h("pre", { tabindex: "0" }, `ancestral ${job.arguments.join(" ")}\n\n${job.notes.join("\n")}`)),
      job.error ? h("p.small", { style: { color: "var(--bad)" } }, job.error) : null),
    job.state === "failed" ? null : h("button", { type: "button", onclick: async () => { try { await post(`api/queue/${job.id}/stop`); await refresh(); } catch (error) { failed(error); } } }, job.state === "waiting" ? "Remove" : "Stop"));
}

function cardOf(run, chosen, update) {
  const thumb = h(".thumb", { "aria-hidden": "true" });
  if (run.preview) {
    get(`api/runs/${encode(run.id)}/previews/${run.preview}`).then(async (samples) => {
      if (samples.form === "pixels") thumb.replaceChildren(...await Promise.all(Array.from({ length: Math.min(4, samples.n) }, (_, i) => cut(samples, i))));
      else if (samples.form === "points") {
        const canvas = h("canvas");
        canvas.redraw = () => scatter(canvas, [{ points: samples.points, color: css("--c1"), radius: 5 }], extent(samples.points));
        canvas.redraw();
        thumb.classList.add("plain");
        thumb.replaceChildren(canvas);
      } else { thumb.classList.add("plain"); thumb.replaceChildren(h(samples.figure ? "img.figure" : "img", { src: `api/runs/${encode(run.id)}/preview.png`, alt: "" })); }
    }).catch(() => {});
  } else thumb.replaceChildren(h("p.small.soft", {}, "no previews"));
  const box = h("input", { type: "checkbox", "aria-label": `Choose ${run.name} for a comparison`, checked: chosen.has(run.id), onchange: () => { box.checked ? chosen.add(run.id) : chosen.delete(run.id); update(); } });
  return h("li", {}, h(".card.run", {},
    thumb,
    h(".row.between", { style: { flexWrap: "nowrap" } }, h("h2.grow", { title: run.name }, h("a", { href: `#/runs/${encode(run.id)}`, style: { color: "inherit", textDecoration: "none" } }, run.name)), run.saved ? null : box),
    h("p.small.soft.num", {}, [run.family, run.condition?.length ? `by ${run.condition.join(", ")}` : "", run.step ? `${count(run.step)} steps` : "", run.seconds ? duration(run.seconds) : ""].filter(Boolean).join(" · ")),
    run.problem ? h("p.small", { style: { color: "var(--bad)" } }, run.problem) : null,
    h(".row.between", { style: { marginTop: "auto" } }, badge(run.problem ? "unreadable" : run.state), run.sampled && !run.problem ? h("a.small", { href: `#/generate/${encode(run.id)}`, "aria-label": `Generate with ${run.name}` }, "Generate") : null),
    ["running", "stopping"].includes(run.state) ? h("progress", { max: 1, ...(run.progress < 1 ? { value: run.progress } : {}), "aria-label": `Progress of ${run.name}` }) : null));
}
