// Files that are dropped on any page: a PNG of the studio is drawn again, all else is data for Home.
import { failed } from "./dom.js";

// All files of a drop, with their paths; folders are walked. The entries must be taken before anything is waited for.
async function dropped(transfer) {
  const found = [];
  const walk = async (entry, path) => {
    if (entry.name.startsWith(".")) return;
    if (entry.isFile) {
      found.push([path + entry.name, await new Promise((resolve, reject) => entry.file(resolve, reject))]);
    } else {
      const reader = entry.createReader();
      for (;;) {
        const part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
        if (!part.length) break;
        for (const child of part) await walk(child, `${path}${entry.name}/`);
      }
    }
  };
  const files = [...transfer.files], entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return files.map((file) => [file.name, file]);
  for (const entry of entries) await walk(entry, "");
  return found;
}

const brings = (event) => event.dataTransfer?.types.includes("Files") && !event.target.matches?.("input[type=file]");
const mark = (over) => document.querySelector(".drop")?.classList.toggle("over", over);

window.addEventListener("dragover", (event) => { if (brings(event)) { event.preventDefault(); mark(true); } });
window.addEventListener("dragleave", (event) => { if (!event.relatedTarget) mark(false); });
window.addEventListener("drop", async (event) => {
  if (!brings(event)) return;
  event.preventDefault();
  mark(false);
  try {
    const files = await dropped(event.dataTransfer);
    if (!files.length) throw new Error("There are no files in what was dropped.");
    if (files.length === 1 && files[0][1].type === "image/png") await (await import("./generate.js")).restore(files[0][1]);
    else (await import("./home.js")).take(files);
  } catch (error) { failed(error); }
});
