// Curves, drawn by plotly.js, which is loaded when the first curve is needed.
import { css } from "./dom.js";

let loading;
export function plotly() {
  loading ||= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = "plotly.js";
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => reject(new Error("plotly.js could not be loaded"));
    document.head.append(script);
  });
  return loading;
}

export const COLOURS = ["--c1", "--c2", "--c3", "--c4", "--c5", "--c6"];

// series: [{name, x, y, dash}]
export async function lines(element, series, { x = "step", y = "", log = false, legend } = {}) {
  const Plotly = await plotly();
  if (!element.isConnected) return;
  const soft = css("--soft"), line = css("--line");
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, tickfont: { color: soft, size: 12 }, automargin: true };
  await Plotly.react(element, series.map((s, i) => ({
    name: s.name, x: s.x, y: s.y, mode: s.y.length === 1 ? "markers" : "lines", type: "scatter", hovertemplate: `%{y:.4g}<extra>${s.safe || ""}</extra>`,
    line: { color: css(COLOURS[(s.color ?? i) % COLOURS.length]), width: s.thin ? 1 : 2, dash: s.dash || "solid" }, opacity: s.thin ? 0.45 : 1,
    showlegend: s.legend !== false,
  })), {
    margin: { l: 48, r: 8, t: 8, b: 40 }, paper_bgcolor: "transparent", plot_bgcolor: "transparent", hovermode: "x unified",
    hoverlabel: { bgcolor: css("--card"), bordercolor: line, font: { color: css("--text") } },
    font: { family: "system-ui, sans-serif", color: css("--text"), size: 13 },
    xaxis: { ...axis, title: { text: x, font: { size: 12, color: soft } } },
    yaxis: { ...axis, title: { text: y, font: { size: 12, color: soft } }, type: log ? "log" : "linear", nticks: 6, exponentformat: "power" },
    showlegend: legend ?? series.length > 1, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { size: 12 } }, uirevision: "same",
  }, { displayModeBar: false, responsive: true });
}

// A running median, so that a noisy curve can be read.
export function smooth(values, width) {
  const half = Math.floor(width / 2);
  return values.map((_, i) => {
    const part = values.slice(Math.max(0, i - half), i + half + 1).sort((a, b) => a - b);
    return part[part.length >> 1];
  });
}
