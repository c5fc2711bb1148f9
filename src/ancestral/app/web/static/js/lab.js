import { h } from "./dom.js";
export async function page() { return [h("h1", {}, "Lab")]; }
