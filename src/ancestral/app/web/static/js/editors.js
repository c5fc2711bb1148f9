// Editors of conditions: boxes, painted maps and masks, sketches, and the choice of a picture.
import { encode, get } from "./api.js";
import { failed, h, select, slider } from "./dom.js";
import { cut } from "./tiles.js";

const rgb = (c) => `rgb(${c.join(",")})`;

function position(canvas, event) {
  const box = canvas.getBoundingClientRect();
  return [((event.clientX - box.left) / box.width) * canvas.width, ((event.clientY - box.top) / box.height) * canvas.height];
}

// Boxes [[class, left, top, width, height], ...] in pixels of the canvas.
export function boxEditor(control, onchange) {
  const [height, width] = control.canvas;
  const scale = Math.max(1, Math.round(300 / width));
  const canvas = h("canvas", { width: width * scale, height: height * scale, role: "img", "aria-label": "Boxes" });
  const boxes = [];
  let current = control.names[0] ?? "", start = null, now = null;
  const words = control.free ? h("input", { value: current, "aria-label": "Words of the box", oninput: () => { current = words.value; } }) : null;
  const pick = control.free ? words : select(control.names, current, (value) => { current = value; }, { "aria-label": "Class of the box" });
  const colour = (name) => { const i = control.names.indexOf(name); return i < 0 ? "var(--c2)" : rgb(control.colours[i]); };
  const list = h(".chips");
  function draw() {
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.lineWidth = 2;
    context.font = "14px system-ui";
    for (const [name, x, y, w, t] of [...boxes, ...(start && now ? [corner(start, now, current)] : [])]) {
      context.strokeStyle = context.fillStyle = colour(name).startsWith("var") ? "#d55e00" : colour(name);
      context.strokeRect(x * scale, y * scale, w * scale, t * scale);
      context.globalAlpha = 0.18;
      context.fillRect(x * scale, y * scale, w * scale, t * scale);
      context.globalAlpha = 1;
      context.fillText(name, x * scale + 4, y * scale + 14);
    }
    list.replaceChildren(...boxes.map((box, i) => h("button.chip", { type: "button", "aria-label": `Remove ${box[0]} at ${box[1]}, ${box[2]}`, onclick: () => { boxes.splice(i, 1); changed(); } }, `${box[0]} ×`)));
  }
  const corner = ([x0, y0], [x1, y1], name) => [name, Math.round(Math.min(x0, x1)), Math.round(Math.min(y0, y1)), Math.max(1, Math.round(Math.abs(x1 - x0))), Math.max(1, Math.round(Math.abs(y1 - y0)))];
  const changed = () => { draw(); onchange(boxes.map((box) => [...box])); };
  const at = (event) => position(canvas, event).map((v, i) => Math.max(0, Math.min(v / scale, [width, height][i])));
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); start = now = at(event); });
  canvas.addEventListener("pointermove", (event) => { if (start) { now = at(event); draw(); } });
  canvas.addEventListener("pointerup", () => {
    if (start && now && Math.abs(now[0] - start[0]) > 1 && Math.abs(now[1] - start[1]) > 1) boxes.push(corner(start, now, current));
    start = now = null;
    changed();
  });
  const numbers = ["left", "top", "width", "height"].map((name, i) => h("input", { type: "number", min: 0, value: [0, 0, Math.round(width / 3), Math.round(height / 3)][i], "aria-label": `${name} of the box in pixels` }));
  const element = h(".field", {}, h("span.label", {}, "Boxes"), pick, h(".editor", {}, canvas), list,
    h("details", {}, h("summary", {}, "Enter a box by numbers"), h(".row", {}, numbers.map((n) => h("span", { style: { width: "64px" } }, n)), h("button", { type: "button", onclick: () => { boxes.push([current, ...numbers.map((n) => Number(n.value))]); changed(); } }, "Add"))),
    h("span.help", {}, "Choose a class and draw with the mouse. A click on a name removes its box."));
  element.set = (value) => { boxes.splice(0, boxes.length, ...(value || [])); draw(); };
  draw();
  return element;
}

// A canvas that is painted: maps (numbers of classes), masks (white), sketches (white on black).
export function painter({ label, width, height, palette, under, onchange, help, brush = 0.12 }) {
  const canvas = h("canvas", { width, height, role: "img", tabindex: "0", "aria-label": `${label}: arrow keys move, Space paints, Backspace erases` });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const values = new Uint8Array(width * height);
  let current = palette.length > 1 ? 1 : 0, radius = Math.max(0.5, brush * Math.min(width, height)), last = null;
  const chips = palette.length > 2 ? h(".chips", { role: "group", "aria-label": `${label}: what to paint` }, palette.map((p, i) => h("button.chip", { type: "button", "aria-pressed": i === current, onclick: (event) => {
    current = i;
    for (const chip of chips.children) chip.setAttribute("aria-pressed", chip === event.currentTarget);
  } }, h("span.dot", { style: { background: rgb(p.color) } }), p.name))) : null;
  let base = null, cursor = null;
  function draw() {
    context.clearRect(0, 0, width, height);
    if (base) context.drawImage(base, 0, 0, width, height);
    const image = context.getImageData(0, 0, width, height);
    values.forEach((v, i) => {
      if (base && !v) return;
      const [r, g, b] = palette[v].color;
      image.data.set([r, g, b, 255], 4 * i);
    });
    context.putImageData(image, 0, 0);
    if (!cursor) return;
    context.fillStyle = "#d55e00";
    context.fillRect(...cursor, 1, 1);
  }
  function dab(x, y) {
    for (let j = Math.floor(y - radius); j <= y + radius; j++) for (let i = Math.floor(x - radius); i <= x + radius; i++) {
      if (i >= 0 && j >= 0 && i < width && j < height && (i + 0.5 - x) ** 2 + (j + 0.5 - y) ** 2 <= Math.max(radius, 0.71) ** 2) values[j * width + i] = erase ? 0 : current;
    }
  }
  let erase = false;
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); erase = event.button === 2 || event.shiftKey; last = position(canvas, event); dab(...last); draw(); });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("pointermove", (event) => {
    if (!last) return;
    const next = position(canvas, event), steps = Math.ceil(Math.hypot(next[0] - last[0], next[1] - last[1]) / Math.max(0.5, radius / 2)) || 1;
    for (let k = 1; k <= steps; k++) dab(last[0] + ((next[0] - last[0]) * k) / steps, last[1] + ((next[1] - last[1]) * k) / steps);
    last = next;
    draw();
  });
  canvas.addEventListener("pointerup", () => { last = null; onchange(values); });
  canvas.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 4 : 1, move = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
    if (move) cursor = cursor ? cursor.map((v, i) => Math.max(0, Math.min([width, height][i] - 1, v + move[i]))) : [width >> 1, height >> 1];
    else if (cursor && [" ", "Enter", "Backspace", "Delete"].includes(event.key)) {
      erase = event.key === "Backspace" || event.key === "Delete";
      dab(cursor[0] + 0.5, cursor[1] + 0.5);
      onchange(values);
    } else return;
    event.preventDefault();
    draw();
  });
  canvas.addEventListener("blur", () => { cursor = null; draw(); });
  const fill = (v) => { values.fill(v); draw(); onchange(values); };
  const half = () => { values.forEach((_, i) => { values[i] = Math.floor(i / width) < height / 2 ? current : 0; }); draw(); onchange(values); };
  const size = slider({ label: "Brush", min: 0.5, max: Math.max(2, Math.min(width, height) / 3), step: 0.5, value: radius, oninput: (v) => { radius = v; } });
  const element = h(".field", {}, h("span.label", {}, label), chips, h(".editor", {}, canvas), size,
    h(".row", {}, h("button", { type: "button", onclick: () => fill(0) }, "Clear"), h("button", { type: "button", onclick: () => fill(current) }, "Fill"), h("button", { type: "button", onclick: half }, "Upper half")),
    h("span.help", {}, help || "Paint with the mouse, and hold Shift to erase; or with arrow keys, Space and Backspace."));
  element.set = (array) => { values.set(array); draw(); };
  element.under = (canvas_) => { base = canvas_; draw(); };
  element.values = values;
  element.canvas = canvas;
  draw();
  return element;
}

// The PNG of values as {file: base64}: what a request holds.
export function pngOf(width, height, color) {
  const canvas = h("canvas", { width, height }), context = canvas.getContext("2d"), image = context.createImageData(width, height);
  for (let i = 0; i < width * height; i++) image.data.set([...color(i), 255], 4 * i);
  context.putImageData(image, 0, 0);
  return fileOf(canvas);
}

export const fileOf = (canvas) => ({ file: canvas.toDataURL("image/png").split(",")[1] });

// Numbers as an .npy file: {npy: base64}. values: a Uint8Array or a Float32Array.
export function npyOf(values, shape) {
  const kind = values instanceof Uint8Array ? "|u1" : "<f4";
  const head = `{'descr': '${kind}', 'fortran_order': False, 'shape': (${shape.join(", ")},), }`;
  const length = Math.ceil((10 + head.length + 1) / 64) * 64;
  const bytes = new Uint8Array(length + values.byteLength);
  bytes.set([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, (length - 10) & 255, (length - 10) >> 8]);
  for (let i = 10; i < length; i++) bytes[i] = i - 10 < head.length ? head.charCodeAt(i - 10) : i === length - 1 ? 10 : 32;
  bytes.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), length);
  let text = "";
  for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return { npy: btoa(text) };
}

// The bytes of the numbers in {npy: base64}.
export function bytesOf({ npy }) {
  const bytes = Uint8Array.from(atob(npy), (c) => c.charCodeAt(0));
  return bytes.slice(10 + bytes[8] + 256 * bytes[9]);
}

// A picture: one of held-out data, or a file. onchange(file, canvas). value: the present file. onclear: what "No picture" does.
// column: "image" for the conditioning images of the data.
export function pictureChooser(run, label, onchange, { value, onclear, preview = true, column = "x" } = {}) {
  const strip = h(".strip", { role: "group", "aria-label": `${label}: held-out data` });
  const shown = h(".row", { hidden: true });
  const press = (chosen) => { for (const button of strip.children) button.setAttribute("aria-pressed", button === chosen); };
  const show = (canvas) => {
    const copy = h("canvas.chosen", { width: canvas.width, height: canvas.height, role: "img", "aria-label": `${label}: the chosen picture` });
    copy.getContext("2d").drawImage(canvas, 0, 0);
    shown.hidden = false;
    shown.replaceChildren(copy, onclear ? h("button.quiet", { type: "button", onclick: () => { shown.hidden = true; input.value = ""; press(null); onclear(); } }, "No picture") : "");
  };
  const take = (canvas, button) => { press(button); if (preview) show(canvas); onchange(fileOf(canvas), canvas); };
  const input = h("input", { type: "file", accept: "image/*", "aria-label": `${label}: a file`, onchange: async () => {
    const file = input.files[0];
    if (!file) return;
    const bitmap = await createImageBitmap(file).catch(() => null);
    if (!bitmap) return failed(new Error("This file is not a picture that the browser can read."));
    const canvas = h("canvas", { width: bitmap.width, height: bitmap.height });
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    take(canvas, null);
  } });
  get(`api/runs/${encode(run)}/data?n=24&column=${column}`).then(async (samples) => {
    if (samples.form !== "pixels") return;
    for (let i = 0; i < samples.n; i++) {
      const canvas = await cut(samples, i, h("canvas", { "aria-hidden": "true" }));
      strip.append(h("button", { type: "button", "aria-pressed": "false", "aria-label": `Held-out ${column === "x" ? "sample" : "picture"} ${i + 1}`, onclick: (event) => take(canvas, event.currentTarget) }, canvas));
    }
  }).catch(() => {});
  if (value) canvasOf(value).then(show);
  return h(".field", {}, h("span.label", {}, label), strip, input, shown, h("span.help", {}, column === "x" ? "Choose a held-out sample, or a file." : "Choose the picture of a held-out sample, or a file."));
}

export async function canvasOf(file) {
  const image = new Image();
  image.src = `data:image/png;base64,${file.file}`;
  await image.decode();
  const canvas = h("canvas", { width: image.naturalWidth, height: image.naturalHeight });
  canvas.getContext("2d").drawImage(image, 0, 0);
  return canvas;
}
