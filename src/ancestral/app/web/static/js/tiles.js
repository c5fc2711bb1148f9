// Samples on the page: pixels as tiles, points on axes, everything else as a picture.
import { css, h } from "./dom.js";

const sheets = new Map();
async function sheet(url) {
  if (sheets.has(url)) return sheets.get(url);
  const image = new Image();
  image.src = url;
  await image.decode();
  if (sheets.size > 40) sheets.delete(sheets.keys().next().value);
  sheets.set(url, image);
  return image;
}

// One tile of a sheet as a canvas.
export async function cut(samples, i, canvas = h("canvas", { role: "img" })) {
  const image = await sheet(samples.tiles);
  if (canvas.width !== samples.width || canvas.height !== samples.height) Object.assign(canvas, { width: samples.width, height: samples.height });
  canvas.getContext("2d").drawImage(image, 0, i * samples.height, samples.width, samples.height, 0, 0, samples.width, samples.height);
  return canvas;
}

export function extent(points, least = 0.5) {
  let half = least;
  for (const [x, y] of points) half = Math.max(half, Math.abs(x), Math.abs(y));
  return half * 1.08;
}

export function scatter(canvas, groups, half, { size = 2.2 } = {}) {
  const side = 560;
  if (canvas.width !== side) Object.assign(canvas, { width: side, height: side });
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, side, side);
  context.strokeStyle = css("--line");
  context.beginPath();
  context.moveTo(side / 2, 0); context.lineTo(side / 2, side); context.moveTo(0, side / 2); context.lineTo(side, side / 2);
  context.stroke();
  for (const { points, color, alpha = 0.65, radius = size } of groups) {
    context.fillStyle = color;
    context.globalAlpha = alpha;
    context.beginPath();
    for (const [x, y] of points) {
      const px = side / 2 + (x / half) * side / 2, py = side / 2 - (y / half) * side / 2;
      context.moveTo(px + radius, py);
      context.arc(px, py, radius, 0, 7);
    }
    context.fill();
  }
  context.globalAlpha = 1;
}

// Points on a canvas have the colours of the theme.
window.addEventListener("theme", () => { for (const canvas of document.querySelectorAll("canvas")) canvas.redraw?.(); });

// A view that shows samples in place: showing others of the same number moves nothing on the page.
export class Samples {
  constructor(label = "sample") {
    this.label = label;
    this.element = h(".shown");
    this.kind = "";
  }

  async show(samples, { columns, captions = [], marks = [], most = 108, onpick, half } = {}) {
    this.samples = samples;
    if (samples.form === "pixels") {
      columns = columns || Math.ceil(Math.sqrt(samples.n));
      const kind = `pixels ${samples.n} ${columns} ${captions.length}`;
      if (this.kind !== kind) {
        this.kind = kind;
        this.tiles = Array.from({ length: samples.n }, (_, i) => {
          const canvas = h("canvas", { role: "img", width: samples.width, height: samples.height });
          const caption = captions.length ? h("figcaption") : null;
          const tile = onpick ? h("button.tile", { type: "button", onclick: () => this.pick(i) }, canvas, caption) : h("figure.tile", {}, canvas, caption);
          if (samples.width < 160) tile.classList.add("pixelated");
          return tile;
        });
        this.element.replaceChildren(h(".tiles", { style: { gridTemplateColumns: `repeat(${columns}, minmax(0, 1fr))`, maxWidth: `${columns * most}px` } }, this.tiles));
      }
      this.onpick = onpick;
      const image = await sheet(samples.tiles);
      if (this.samples !== samples) return;
      this.tiles.forEach((tile, i) => {
        const canvas = tile.querySelector("canvas");
        const context = canvas.getContext("2d");
        context.clearRect(0, 0, canvas.width, canvas.height);
        context.drawImage(image, 0, i * samples.height, samples.width, samples.height, 0, 0, samples.width, samples.height);
        const words = captions[i] ? `: ${captions[i]}` : "";
        canvas.setAttribute("aria-label", `${this.label} ${i + 1}${words}${marks[i] ? ", a copy of a training sample" : ""}`);
        tile.classList.toggle("marked", !!marks[i]);
        const caption = tile.querySelector("figcaption");
        if (caption) { caption.textContent = captions[i] || ""; caption.title = captions[i] || ""; }
      });
    } else if (samples.form === "points") {
      if (this.kind !== "points") {
        this.kind = "points";
        this.canvas = h("canvas.points", { role: "img", width: 560, height: 560, style: { maxWidth: "560px" } });
        this.element.replaceChildren(this.canvas);
      }
      this.canvas.setAttribute("aria-label", `${samples.n} points in the plane`);
      this.half = half || this.half || extent(samples.points);
      this.canvas.redraw = () => scatter(this.canvas, [{ points: samples.points, color: css("--c1") }], this.half);
      this.canvas.redraw();
    } else {
      if (this.kind !== "picture") {
        this.kind = "picture";
        this.element.replaceChildren(h("img", { alt: `${this.label}s` }));
      }
      this.element.firstChild.className = samples.figure ? "figure" : "";
      this.element.firstChild.src = samples.picture;
    }
  }

  pick(i) { this.onpick?.(i); }
}
