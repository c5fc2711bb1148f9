// The plane: densities, arrows, points and paths on a canvas, with a cursor for mouse and keyboard.
import { css, h } from "./dom.js";

const SIDE = 600;

export class Plane {
  constructor({ label, half = 3, onpoint, help }) {
    Object.assign(this, { half, onpoint, cursor: null, layers: [] });
    this.canvas = h("canvas", { width: SIDE, height: SIDE, role: "img", "aria-label": label, tabindex: onpoint ? "0" : null });
    this.element = h(`.plane${onpoint ? ".click" : ""}`, {}, this.canvas, help ? h("p.small.soft", { style: { marginTop: "6px" } }, help) : null);
    if (!onpoint) return;
    let down = false;
    const at = (event) => {
      const box = this.canvas.getBoundingClientRect();
      return [((event.clientX - box.left) / box.width * 2 - 1) * this.half, (1 - (event.clientY - box.top) / box.height * 2) * this.half];
    };
    this.canvas.addEventListener("pointerdown", (event) => { down = true; this.canvas.setPointerCapture(event.pointerId); this.cursor = null; onpoint(at(event), false); });
    this.canvas.addEventListener("pointermove", (event) => { if (down) onpoint(at(event), true); });
    this.canvas.addEventListener("pointerup", () => { down = false; });
    this.canvas.addEventListener("keydown", (event) => {
      const step = this.half / (event.shiftKey ? 5 : 20), move = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] }[event.key];
      if (move) {
        const [x, y] = this.cursor || [0, 0];
        this.cursor = [x + move[0], y + move[1]].map((v) => Math.max(-this.half, Math.min(this.half, v)));
        this.draw();
        if (this.follow) onpoint(this.cursor, true);
      } else if (event.key === "Enter" || event.key === " ") onpoint(this.cursor || [0, 0], false);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    this.canvas.addEventListener("blur", () => { this.cursor = null; this.draw(); });
  }

  set(layers) { this.layers = layers.filter(Boolean); this.draw(); }
  px(x, y) { return [(x / this.half + 1) * SIDE / 2, (1 - y / this.half) * SIDE / 2]; }

  draw() {
    const c = this.canvas.getContext("2d");
    c.clearRect(0, 0, SIDE, SIDE);
    c.fillStyle = css("--card");
    c.fillRect(0, 0, SIDE, SIDE);
    for (const layer of this.layers) { c.save(); this[layer.type](c, layer); c.restore(); }
    if (this.cursor) {
      const [x, y] = this.px(...this.cursor);
      c.strokeStyle = css("--text");
      c.lineWidth = 2;
      c.beginPath(); c.moveTo(x - 12, y); c.lineTo(x + 12, y); c.moveTo(x, y - 12); c.lineTo(x, y + 12); c.stroke();
    }
  }

  // values: cells x cells from the top, in [0, 1]
  heat(c, { values, cells, color = css("--density"), most = 0.85 }) {
    const small = h("canvas", { width: cells, height: cells }), s = small.getContext("2d"), image = s.createImageData(cells, cells);
    const [r, g, b] = color.split(",").map(Number);
    values.forEach((v, i) => image.data.set([r, g, b, 255 * most * Math.max(0, Math.min(1, v))], 4 * i));
    s.putImageData(image, 0, 0);
    c.imageSmoothingEnabled = true;
    c.drawImage(small, 0, 0, SIDE, SIDE);
  }

  // a critic in [0, 1]: one colour below a half, another above
  two(c, { values, cells }) {
    const small = h("canvas", { width: cells, height: cells }), s = small.getContext("2d"), image = s.createImageData(cells, cells);
    values.forEach((v, i) => image.data.set([...(v > 0.5 ? [0, 158, 115] : [213, 94, 0]), 230 * Math.min(1, Math.abs(v - 0.5) * 2)], 4 * i));
    s.putImageData(image, 0, 0);
    c.drawImage(small, 0, 0, SIDE, SIDE);
  }

  points(c, { points, color, radius = 2.6, alpha = 0.7 }) {
    c.fillStyle = color;
    c.globalAlpha = alpha;
    c.beginPath();
    for (const p of points) { const [x, y] = this.px(p[0], p[1]); c.moveTo(x + radius, y); c.arc(x, y, radius, 0, 7); }
    c.fill();
  }

  colored(c, { points, labels, radius = 3, alpha = 0.85 }) {
    const hues = Array.from({ length: 10 }, (_, i) => css(`--d${i}`));
    points.forEach((p, i) => { c.fillStyle = hues[labels[i] % 10]; c.globalAlpha = alpha; const [x, y] = this.px(p[0], p[1]); c.beginPath(); c.arc(x, y, radius, 0, 7); c.fill(); });
  }

  arrows(c, { at, arrows, scale = 1, color = css("--text"), alpha = 0.75, width = 1.6 }) {
    c.strokeStyle = color;
    c.globalAlpha = alpha;
    c.lineWidth = width;
    c.beginPath();
    at.forEach(([x, y], i) => {
      const [dx, dy] = arrows[i], [x0, y0] = this.px(x, y), [x1, y1] = this.px(x + dx * scale, y + dy * scale), length = Math.hypot(x1 - x0, y1 - y0);
      if (length < 1.5) return;
      const head = Math.min(7, length * 0.4), angle = Math.atan2(y1 - y0, x1 - x0);
      c.moveTo(x0, y0); c.lineTo(x1, y1);
      c.moveTo(x1 - head * Math.cos(angle - 0.5), y1 - head * Math.sin(angle - 0.5)); c.lineTo(x1, y1); c.lineTo(x1 - head * Math.cos(angle + 0.5), y1 - head * Math.sin(angle + 0.5));
    });
    c.stroke();
  }

  path(c, { points, color, width = 2.4, share = 1, end = true }) {
    const shown = points.slice(0, Math.max(1, Math.round(points.length * share)));
    c.strokeStyle = c.fillStyle = color;
    c.lineWidth = width;
    c.lineJoin = "round";
    c.beginPath();
    shown.forEach((p, i) => { const [x, y] = this.px(p[0], p[1]); if (i) c.lineTo(x, y); else c.moveTo(x, y); });
    c.stroke();
    if (end) { const [x, y] = this.px(...shown.at(-1)); c.beginPath(); c.arc(x, y, 5, 0, 7); c.fill(); }
  }

  mark(c, { at, color = css("--text") }) {
    const [x, y] = this.px(...at);
    c.strokeStyle = color;
    c.lineWidth = 2.5;
    c.beginPath(); c.arc(x, y, 8, 0, 7); c.stroke();
  }
}

// Grey pictures of side x side on a canvas, in a grid of columns.
export function digits(canvas, pictures, side, columns, { gap = 1, zoom = 1 } = {}) {
  const rows = Math.ceil(pictures.length / columns), cell = side + gap, wide = columns * cell, tall = rows * cell;
  if (canvas.width !== zoom * wide || canvas.height !== zoom * tall) Object.assign(canvas, { width: zoom * wide, height: zoom * tall });
  const small = zoom === 1 ? canvas : h("canvas", { width: wide, height: tall });
  const s = small.getContext("2d"), image = s.createImageData(wide, tall);
  pictures.forEach((picture, k) => {
    const left = (k % columns) * cell, top = Math.floor(k / columns) * cell;
    for (let i = 0; i < side * side; i++) {
      const v = Math.max(0, Math.min(255, Math.round(255 * picture[i])));
      image.data.set([v, v, v, 255], 4 * ((top + Math.floor(i / side)) * wide + left + (i % side)));
    }
  });
  s.putImageData(image, 0, 0);
  if (zoom > 1) {
    const c = canvas.getContext("2d");
    c.imageSmoothingEnabled = false;
    c.clearRect(0, 0, canvas.width, canvas.height);
    c.drawImage(small, 0, 0, canvas.width, canvas.height);
  }
  return canvas;
}

// A small curve that grows, on a canvas: series [{values, color}], of `length` values. x: what the axis is, with the words of both its
// ends. y: its unit. text: writes a value of the axis.
export function curve(canvas, series, { mark, low, high, length, x, ends, y = "", text = (v) => String(Number(v.toPrecision(2))) }) {
  const W = 600, H = 220;
  if (canvas.width !== W) Object.assign(canvas, { width: W, height: H });
  if (!canvas.isConnected) requestAnimationFrame(() => { if (canvas.isConnected) curve(canvas, series, { mark, low, high, length, x, ends, y, text }); });
  const c = canvas.getContext("2d"), all = series.flatMap((s) => s.values).filter(Number.isFinite);
  if (!all.length) return;
  const a = low ?? Math.min(...all), b = high ?? Math.max(...all), n = Math.max(2, length || Math.max(...series.map((s) => s.values.length)));
  const size = (document.body.classList.contains("show") ? 16 : 12) * (W / (canvas.clientWidth || W)); // the same on every screen
  const top = 2.2 * size, left = 4.2 * size, bottom = H - 1.7 * size;
  c.clearRect(0, 0, W, H);
  c.font = `${size}px system-ui, sans-serif`;
  c.fillStyle = css("--soft");
  c.strokeStyle = css("--line");
  const px = (i, v) => [left + (i / (n - 1)) * (W - left - 10), bottom - ((v - a) / Math.max(b - a, 1e-9)) * (bottom - top)];
  const words = (said, at, to, align) => { c.textAlign = align; c.fillText(said, at, to); };
  for (const v of [a, (a + b) / 2, b]) {
    const [, h_] = px(0, v);
    c.beginPath(); c.moveTo(left, h_); c.lineTo(W - 10, h_); c.stroke();
    words(text(v), left - 0.5 * size, h_ + 0.35 * size, "right");
  }
  words(y, left - 3.7 * size, 0.9 * size, "left");
  words(ends[0], left, H - 0.3 * size, "left");
  words(x, (left + W) / 2, H - 0.3 * size, "center");
  words(ends[1], W - 10, H - 0.3 * size, "right");
  for (const s of series) {
    c.strokeStyle = s.color;
    c.lineWidth = 3;
    c.beginPath();
    s.values.forEach((v, i) => { const [x_, y_] = px(i, v); if (i) c.lineTo(x_, y_); else c.moveTo(x_, y_); });
    c.stroke();
  }
  if (mark !== undefined && series[0].values.length) {
    const [x_, y_] = px(mark, series[0].values[mark]);
    c.fillStyle = css("--c2");
    c.beginPath(); c.arc(x_, y_, 7, 0, 7); c.fill();
  }
}
