// The gallery: what was drawn, with favourites. Every picture can be restored with all its settings.
import { get, post, remove } from "./api.js";
import { ICONS, failed, h, icon, tabs } from "./dom.js";

export async function page({ signal }) {
  const list = h("ul.masonry");
  let items = await get("api/gallery", signal), only = "all";
  const empty = () => h("li", {}, h(".card.empty", {}, h("h2", {}, only === "all" ? "Nothing was drawn yet" : "No favourites yet"), h("p", {}, only === "all" ? "What you draw is kept here, with its settings." : "Mark a picture with the heart."), h("a.button.primary", { href: "#/generate" }, "Generate")));
  function draw() {
    const shown = items.filter((item) => only === "all" || item.favourite);
    list.replaceChildren(...(shown.length ? shown.map((item) => card(item)) : [empty()]));
    list.classList.toggle("masonry", shown.length > 0);
    if (!shown.length) { list.style.padding = 0; list.style.listStyle = "none"; }
  }
  function card(item) {
    const label = `${item.kind} of ${item.run}`;
    const heart = h("button.icon", { type: "button", "aria-pressed": item.favourite, "aria-label": `Favourite: ${label}`, style: { color: item.favourite ? "var(--bad)" : "" }, onclick: async () => {
      try { item.favourite = (await post(`api/gallery/${item.id}/favourite`)).favourite; draw(); } catch (error) { failed(error); }
    } }, icon(ICONS.heart));
    if (item.favourite) heart.firstChild.style.fill = "currentColor";
    return h("li", {}, h("figure.card.stack.tight", { style: { padding: "12px" } },
      h("a", { href: item.film || item.png, target: "_blank", rel: "noopener" }, h(item.figure ? "img.figure" : "img", { src: item.film || item.png, alt: label, width: item.width, height: item.height, loading: "lazy" })),
      h("figcaption.row.between", {}, h("span.small.soft", {}, h("b", { style: { color: "var(--text)" } }, item.run), ` · ${item.kind} · ${new Date(item.when * 1000).toLocaleString([], { month: "short", day: "numeric", hour: "numeric", minute: "2-digit" })}`),
        h(".row", { style: { gap: "2px" } }, heart, h("a.button.icon", { href: item.png, download: `${item.run}-${item.id}.png`, "aria-label": `Save: ${label}`, style: { border: 0, color: "var(--soft)" } }, icon(ICONS.down)),
          h("button.icon", { type: "button", "aria-label": `Delete: ${label}`, onclick: async () => { try { await remove(`api/gallery/${item.id}`); items = items.filter((other) => other !== item); draw(); } catch (error) { failed(error); } } }, icon(ICONS.close)))),
      h("button", { type: "button", onclick: async () => {
        const content = await (await fetch(item.png)).blob();
        (await import("./generate.js")).restore(new File([content], `${item.id}.png`, { type: "image/png" }));
      } }, "Restore its settings")));
  }
  draw();
  return [h(".top", {}, h("h1", {}, "Gallery"), tabs("Which pictures", [{ value: "all", label: "All" }, { value: "favourites", label: "Favourites" }], "all", (value) => { only = value; draw(); })), list];
}
