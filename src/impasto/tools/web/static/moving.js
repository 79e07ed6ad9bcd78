// What the panels of films and of the camera share: the tabs, galleries of styles, requests.
const moving = (() => {
  const HOME = new URL("..", document.currentScript.src).href; // includes a proxy's prefix
  const $ = (id) => document.getElementById(id);
  const TABS = ["photo", "film", "live"];
  const DEFAULT_STYLE = "starry-night";

  function show(tab) {
    document.body.dataset.tab = tab;
    for (const button of document.querySelectorAll("#title nav button")) {
      button.setAttribute("aria-selected", String(button.dataset.tab === tab));
    }
    reveal();
    document.dispatchEvent(new CustomEvent("tab", { detail: tab }));
  }

  function fromAddress() {
    const wanted = location.hash.slice(1);
    show(TABS.includes(wanted) ? wanted : "photo");
  }

  function load(name) {
    return new Promise((done, fail) => {
      const script = document.createElement("script");
      [script.src, script.onload, script.onerror] = [`${HOME}studio/${name}.js`, done, fail];
      document.head.append(script);
    });
  }

  // The page's parts are made by a script of Gradio's, at a time of its own.
  async function start() {
    while (!$("film") || !$("live") || !document.querySelector("#title nav")) {
      await new Promise((done) => setTimeout(done, 50));
    }
    fromAddress();
    addEventListener("hashchange", fromAddress);
    const styles = await fetch(`${HOME}v1/styles`).then((answer) => answer.json());
    if (!$("film-styles")) return; // the extra is not installed
    await Promise.all(["film", "live"].map(load));
    film.start(styles);
    live.start(styles).then(reveal);
  }

  // A choice for each style; `own` are names without a thumbnail.
  function fill(gallery, styles, own = [], chosen = [DEFAULT_STYLE]) {
    const rows = [...own.map((name) => ({ name, title: name })), ...styles];
    gallery.querySelector("div").replaceChildren(...rows.map((style) => {
      const label = document.createElement("label"), box = document.createElement("input"), text = document.createElement("span");
      [box.type, box.value, box.checked] = ["checkbox", style.name, chosen.includes(style.name)];
      const picture = document.createElement("img");
      if (style.thumbnail) [picture.src, picture.alt, picture.loading] = [style.thumbnail, "", "lazy"];
      text.textContent = style.name.replaceAll("-", " ").replace(/\b\w/g, (letter) => letter.toUpperCase());
      label.title = [style.title, style.artist, style.date].filter(Boolean).join(", ");
      label.append(box, picture, text);
      return label;
    }));
  }

  // A chosen style may be far down its gallery, which cannot be scrolled while its tab is hidden.
  function reveal() {
    for (const list of document.querySelectorAll(".gallery > div")) {
      const label = list.querySelector("label:has(input:checked)");
      if (label) list.scrollTop = label.offsetTop - list.offsetTop - 8;
    }
  }

  function chosen(gallery) {
    return [...gallery.querySelectorAll("div input:checked")].map((box) => box.value);
  }

  async function refused(answer) {
    const text = await answer.text();
    try {
      return new Error(JSON.parse(text).error);
    } catch {
      return new Error(`The server answered with ${answer.status}.`);
    }
  }

  function duration(seconds) {
    const s = Math.max(1, Math.round(seconds));
    return s < 90 ? `${s} s` : s < 5400 ? `${Math.round(s / 60)} min` : `${(s / 3600).toFixed(1)} h`;
  }

  function outputs() {
    for (const slider of document.querySelectorAll(".sliders input")) {
      slider.parentElement.querySelector("output").textContent = Number(slider.value).toFixed(2);
    }
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("#title nav button");
    if (button) location.hash = button.dataset.tab;
  });
  document.addEventListener("input", (event) => {
    if (event.target.closest(".sliders")) outputs();
  });

  return { HOME, $, start, fill, chosen, refused, duration, outputs };
})();
window.moving = moving;
moving.start();
