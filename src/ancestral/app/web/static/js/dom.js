// Elements, words and numbers. Text from data becomes text nodes only, so that a name can never be a tag.

export function h(tag, props = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name || "div");
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(props || {})) {
    if (value === undefined || value === null || (value === false && !key.startsWith("aria-"))) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "style") Object.assign(element.style, value);
    else if (key === "class") element.className += ` ${value}`;
    else if (key === "data") Object.assign(element.dataset, value);
    else if (["value", "checked", "disabled", "hidden", "selected", "open", "indeterminate"].includes(key)) element[key] = value;
    else element.setAttribute(key, value === true && !key.startsWith("aria-") ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function icon(path) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

export const ICONS = {
  upload: "M12 16V4m-5 5 5-5 5 5M5 16v3a1 1 0 0 0 1 1h12a1 1 0 0 0 1-1v-3",
  play: "M8 5l11 7-11 7z", pause: "M8 5v14M16 5v14", dice: "M4 4h16v16H4zM8.5 8.5h.01M15.5 8.5h.01M12 12h.01M8.5 15.5h.01M15.5 15.5h.01",
  heart: "M12 20l-7-7a4.5 4.5 0 0 1 7-5.6A4.5 4.5 0 0 1 19 13z", down: "M12 4v12m-5-5 5 5 5-5M5 20h14", close: "M6 6l12 12M18 6L6 18",
  left: "M15 5l-7 7 7 7", right: "M9 5l7 7-7 7", full: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
};

let counter = 0;
export const unique = (prefix = "f") => `${prefix}${++counter}`;

export function field(label, input, help) {
  const target = input.matches?.("input, select, textarea") ? input : input.querySelector?.("input, select, textarea");
  if (target && !target.id) target.id = unique();
  return h(".field", {}, h("label", { for: target?.id }, label), input, help ? h("span.help", {}, help) : null);
}

export function select(options, value, onchange, props = {}) {
  const items = options.map((o) => (typeof o === "object" ? o : { value: o, label: o }));
  const element = h("select", { onchange: () => onchange?.(element.value), ...props },
    items.map((o) => h("option", { value: o.value, selected: String(o.value) === String(value) }, o.label)));
  return element;
}

// A range with a number beside it; both say the same.
// beyond: whether the number may be outside of the range.
// show, read: of a scale that is not linear, the number that stands for a position, and its inverse.
export function slider({ label, min, max, step, value, oninput, help, digits, beyond = false, show = (v) => v, read = (v) => v }) {
  const id = unique();
  const shown = (v) => (digits === undefined ? show(v) : Number(show(v)).toPrecision(digits));
  const range = h("input", { type: "range", id, min, max, step, value });
  const number = h("input", { type: "number", min: beyond ? null : show(min), step: "any", value: shown(value), "aria-label": `${label}, as a number` });
  const set = (v, from) => {
    if (from !== range) range.value = v;
    if (from !== number) number.value = shown(v);
  };
  range.addEventListener("input", () => { set(range.value, range); oninput?.(Number(range.value)); });
  number.addEventListener("input", () => {
    if (number.value === "" || !Number.isFinite(Number(number.value))) return;
    const position = read(Number(number.value));
    if (!Number.isFinite(position)) return;
    set(position, number);
    oninput?.(position);
  });
  const element = h(".field", {}, h("label", { for: id }, label), h(".slider", {}, range, number), help ? h("span.help", {}, help) : null);
  element.set = (v) => set(v);
  Object.defineProperty(element, "value", { get: () => read(Number(number.value)) });
  element.range = range;
  return element;
}

// A choice of one among few, as buttons that arrow keys move through.
export function choice(label, options, value, onchange, kind = "option") {
  const group = h(kind === "option" ? ".options" : ".chips", { role: "radiogroup", "aria-label": label });
  const choose = (v, focus) => {
    for (const button of group.children) {
      const on = button.value === String(v);
      button.setAttribute("aria-checked", on);
      button.tabIndex = on ? 0 : -1;
      if (on && focus) button.focus();
    }
  };
  for (const o of options) {
    group.append(h(`button.${kind}`, {
      type: "button", role: "radio", value: o.value, disabled: !!o.disabled, "aria-checked": "false",
      onclick: () => { choose(o.value); onchange(o.value); },
      onkeydown: (event) => {
        const move = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        if (!move) return;
        event.preventDefault();
        const open = options.filter((other) => !other.disabled);
        const next = open[(open.findIndex((other) => other.value === o.value) + move + open.length) % open.length];
        choose(next.value, true);
        onchange(next.value);
      },
    }, o.title ? [h("b", {}, o.title), o.text ? h("small", {}, o.text) : null] : o.label));
  }
  choose(value);
  if (![...group.children].some((b) => b.tabIndex === 0)) group.firstElementChild && (group.firstElementChild.tabIndex = 0);
  group.choose = choose;
  return group;
}

export function toggle(label, on, onchange) {
  const button = h("button.chip", { type: "button", "aria-pressed": on, onclick: () => {
    const now = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", now);
    onchange(now);
  } }, label);
  return button;
}

export function tabs(label, options, value, onchange) {
  const group = h(".tabs", { role: "group", "aria-label": label });
  const choose = (v) => { for (const b of group.children) b.setAttribute("aria-pressed", b.value === v); };
  for (const o of options) group.append(h("button", { type: "button", value: o.value, onclick: () => { choose(o.value); onchange(o.value); } }, o.label));
  choose(value);
  group.choose = choose;
  return group;
}

export function toast(text, bad = false) {
  const element = h(`.toast${bad ? ".bad" : ""}`, {}, text);
  document.getElementById("toasts").append(element);
  setTimeout(() => element.remove(), bad ? 9000 : 4000);
}

export const failed = (error) => { if (error.name !== "AbortError") toast(error.message, true); };

export function duration(seconds) {
  seconds = Math.round(seconds);
  if (seconds < 60) return `${seconds}\u00a0s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes}\u00a0min${seconds % 60 ? ` ${seconds % 60}\u00a0s` : ""}` : `${Math.floor(minutes / 60)}\u00a0h ${minutes % 60}\u00a0min`;
}

export function count(n) {
  return n < 1e4 ? Math.round(n).toLocaleString("en") : n < 1e6 ? `${(n / 1e3).toPrecision(3)}k` : `${(n / 1e6).toPrecision(3)}M`;
}

export const plural = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

export function debounce(action, ms) {
  let timer;
  return (...values) => { clearTimeout(timer); timer = setTimeout(() => action(...values), ms); };
}

export const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export function confirmed({ title, text, action, fields = [] }) {
  return new Promise((resolve) => {
    const dialog = h("dialog", { "aria-labelledby": "dialog-title", onclose: () => { dialog.remove(); resolve(dialog.returnValue === "yes"); } },
      h("form.stack", { method: "dialog" }, h("h2", { id: "dialog-title" }, title), text ? h("p.soft", {}, text) : null, fields,
        h(".row", { style: { justifyContent: "flex-end" } }, h("button", { type: "button", onclick: () => dialog.close("no") }, "Cancel"), h("button.primary", { value: "yes" }, action))));
    document.body.append(dialog);
    dialog.showModal();
  });
}
