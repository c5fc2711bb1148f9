// Draws samples of an exported model in the browser. Everything is in this folder; nothing leaves it.
import * as ort from "./ort/ort.wasm.min.mjs";

ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
ort.env.wasm.numThreads = 1; // more need headers of the server

const BATCH = 16; // samples at a time
const TYPES = { float32: Float32Array, float64: Float64Array, int64: BigInt64Array, uint8: Uint8Array, bool: Uint8Array };
const at = (id) => document.getElementById(id);
const size = (shape) => shape.reduce((a, b) => a * b, 1);

// Uniform numbers in (0, 1) for draw j of the sample with a seed (a hash of the key, then a 32-bit generator).
function uniforms(seed, i, j) {
  let a = 0x9e3779b9;
  for (const word of [seed, i, j]) a = Math.imul(a ^ word, 0x85ebca6b) ^ ((a ^ word) >>> 13);
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), a | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 4294967296;
  };
}

// Standard normal numbers by Box and Muller.
function normals(uniform, count) {
  const out = new Float32Array(count);
  for (let k = 0; k < count; k += 2) {
    const r = Math.sqrt(-2 * Math.log(uniform())), angle = 2 * Math.PI * uniform();
    out[k] = r * Math.cos(angle);
    if (k + 1 < count) out[k + 1] = r * Math.sin(angle);
  }
  return out;
}

// The random numbers of samples first .. first + n - 1 of a seed, an array for each draw of the model.
export function noise(config, seed, first, n) {
  return config.noise.map(([kind, shape], j) => {
    const each = size(shape), out = new Float32Array(n * each);
    for (let i = 0; i < n; i++) {
      const uniform = uniforms(seed, first + i, j);
      out.set(kind === "normal" ? normals(uniform, each) : Float32Array.from({ length: each }, uniform), i * each);
    }
    return out;
  });
}

export class Model {
  static async load(folder = ".") {
    const model = new Model();
    model.config = await (await fetch(`${folder}/config.json`)).json();
    const [graph] = Object.values(model.config.graphs);
    model.graph = graph;
    model.session = await ort.InferenceSession.create(`${folder}/${Object.keys(graph.files)[0]}`, { executionProviders: ["wasm"] });
    return model;
  }

  // Samples `(n, *shape)` in the units of the data. draws: an array for each draw. given: values of conditions by name.
  async draw(draws, given, n) {
    const feeds = {};
    this.graph.inputs.forEach((input, k) => {
      const shape = [n, ...input.shape.slice(1)], name = input.name.replace(/_given$/, "");
      const data = new TYPES[input.dtype](size(shape));
      if (k < draws.length) data.set(draws[k]);
      else if (input.name !== name && name in this.config.conditions) data.fill(name in given ? 1 : 0);
      else if (name in given) for (let i = 0; i < data.length; i++) data[i] = given[name][i % given[name].length];
      feeds[input.name] = new ort.Tensor(input.dtype, data, shape);
    });
    return (await this.session.run(feeds))[this.graph.output.name].data;
  }

  async sample(seed, n, given) {
    const each = size(this.config.shape), out = new Float32Array(n * each);
    for (let first = 0; first < n; first += BATCH) {
      const part = Math.min(BATCH, n - first);
      out.set(await this.draw(noise(this.config, seed, first, part), given, part), first * each);
    }
    return out;
  }
}

// Paint images side by side.
function paint(canvas, x, n, [c, h, w], [low, high]) {
  const columns = Math.ceil(Math.sqrt(n)), rows = Math.ceil(n / columns);
  canvas.width = columns * w;
  canvas.height = rows * h;
  const image = new ImageData(canvas.width, canvas.height);
  for (let i = 0; i < n; i++) {
    for (let p = 0; p < h * w; p++) {
      const row = Math.floor(i / columns) * h + Math.floor(p / w), column = (i % columns) * w + (p % w);
      const to = 4 * (row * canvas.width + column);
      for (let k = 0; k < 3; k++) {
        const value = x[(i * c + (c >= 3 ? k : 0)) * h * w + p];
        image.data[to + k] = Math.round((255 * (value - low)) / (high - low));
      }
      image.data[to + 3] = 255;
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// A field for each condition that people can give.
function fields(config) {
  for (const [name, kind] of Object.entries(config.conditions)) {
    if (kind.kind === "class") {
      const choice = document.createElement("select");
      choice.dataset.condition = name;
      for (const word of ["any", ...kind.names]) choice.append(new Option(word, choice.length - 1));
      at("conditions").append(labelled(name, choice));
    } else if (kind.names) {
      for (const word of kind.names) {
        const field = Object.assign(document.createElement("input"), { type: "number", step: "any", placeholder: "any" });
        field.dataset.condition = name;
        at("conditions").append(labelled(word, field));
      }
    }
  }
}

function labelled(word, field) {
  const label = document.createElement("label");
  label.append(`${word} `, field);
  return label;
}

// The values that are asked for. A number that is left open is not a number.
function asked(config) {
  const given = {};
  for (const [name, kind] of Object.entries(config.conditions)) {
    const chosen = [...document.querySelectorAll(`[data-condition="${name}"]`)].map((field) => field.value);
    if (kind.kind === "class") {
      if (chosen[0] !== "-1") given[name] = [BigInt(chosen[0])];
    } else if (kind.names && chosen.some((value) => value !== "")) given[name] = chosen.map((value) => (value === "" ? NaN : Number(value)));
  }
  return given;
}

async function main() {
  const model = await Model.load();
  const { config } = model;
  window.model = model;
  at("about").textContent = `${config.run ?? "a model"}: ${config.family}, ${config.shape.slice(1).join("x")} pixels`;
  fields(config);
  const draw = async () => {
    const n = Number(at("n").value), begun = performance.now();
    const button = document.querySelector("button");
    button.disabled = true;
    try {
      const x = await model.sample(Number(at("seed").value), n, asked(config));
      paint(at("picture"), x, n, config.shape, config.bounds);
      at("status").textContent = `${n} samples in ${Math.round(performance.now() - begun)} ms`;
    } catch (error) {
      at("status").textContent = `the model cannot draw: ${error.message}`;
    }
    button.disabled = false;
  };
  at("form").addEventListener("submit", (event) => {
    event.preventDefault();
    draw();
  });
  await draw();
}

main().catch((error) => {
  at("status").textContent = `the model cannot be loaded (${error.message}): open this page from a web server`;
});
