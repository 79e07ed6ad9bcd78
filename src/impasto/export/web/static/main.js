// The page: what a person chooses, and what is shown.
import { Client } from "./client.js";
import { fill, OWN, showOwn } from "./gallery.js";
import { bitmapOf, Camera, listen } from "./pictures.js";

const $ = (id) => document.getElementById(id);
const SIZES = [256, 512, 768, 1024, 1536, 2048, 4096];
const LIVE_SIZE = 320; // long side of the camera's paintings
const FIRST = "starry-night";

const query = new URLSearchParams(location.search);
const client = new Client();
const camera = new Camera($("video"));
const chosen = { style: FIRST, own: null, name: "photo" };
let painting = false, again = false;

start().catch(failed);

async function start() {
  const [site, styles] = await Promise.all(["site.json", "styles.json"].map((name) => fetch(name).then((r) => r.json())));
  fill($("styles"), styles, FIRST, choose);
  for (const size of new Set([...SIZES, site.size].sort((a, b) => a - b))) $("size").add(new Option(`${size} pixels`, size));
  $("size").value = site.size;
  bind();
  document.body.dataset.ready = "yes";
  if ("serviceWorker" in navigator) navigator.serviceWorker.register("sw.js").catch(() => {}); // without it, the page does not work offline
  const wish = { processor: query.get("processor"), threads: Number(query.get("threads")) };
  const { gpu, threads } = await client.ask({ kind: "open", wish });
  const processor = gpu ? "Painting on the graphics processor (WebGPU)" : `Painting with ${threads} thread${threads > 1 ? "s" : ""}`;
  $("engine").textContent = `${processor}. Nothing leaves this device. Impasto ${site.version}.`;
  document.body.dataset.engine = gpu ? "gpu" : `cpu-${threads}`;
  if (document.body.dataset.state === "empty") say("Choose a photograph to begin.");
}

function bind() {
  $("choose").onclick = $("another").onclick = () => $("file").click();
  $("file").onchange = ({ target }) => take(target, takePhoto);
  $("painting").onchange = ({ target }) => take(target, takeStyle);
  $("own").onclick = (event) => {
    if (event.target.tagName !== "INPUT") return; // a click on the label is followed by one on its input
    if (!chosen.own || chosen.style === OWN) $("painting").click();
  };
  for (const button of document.querySelectorAll("[data-sample]")) button.onclick = () => sample(button.dataset.sample).catch(failed);
  listen((file, kind) => (kind === "style" ? takeStyle : takePhoto)(file).catch(failed));
  for (const id of ["strength", "stroke", "keep"]) {
    $(id).oninput = () => { label(id); repaint(); };
    label(id);
  }
  $("size").onchange = repaint;
  $("divide").oninput = ({ target }) => $("frame").style.setProperty("--cut", `${target.value}%`);
  $("camera").onclick = $("live").onclick = () => live().catch(failed);
  $("end").onclick = () => endCamera(false);
  $("shoot").onclick = () => shoot().catch(failed);
  $("download").onclick = () => download().catch(failed);
}

// Pass on a file field's file, and empty the field, so that the same file can be chosen again.
function take(field, taken) {
  const [file] = field.files;
  field.value = "";
  if (file) taken(file).catch(failed);
}

function label(id) {
  const value = Number($(id).value), shown = id === "stroke" ? 2 ** value : value;
  document.querySelector(`output[for="${id}"]`).textContent = id === "stroke" ? `${shown.toFixed(2)}×` : `${Math.round(100 * shown)} %`;
}

async function sample(name) {
  const response = await fetch(`samples/${name}.jpg`);
  await takePhoto(new File([await response.blob()], `${name}.jpg`));
}

async function takePhoto(file) {
  endCamera(true);
  await showPhoto(await bitmapOf(file), file.name.replace(/\.[^.]*$/, "") || "photo");
}

async function showPhoto(bitmap, name) {
  draw($("before"), bitmap);
  clear($("after"));
  chosen.name = name;
  document.body.dataset.state = "photo";
  fail("");
  await client.ask({ kind: "photo", bitmap }, [bitmap]);
  await repaint();
}

async function takeStyle(file) {
  const bitmap = await bitmapOf(file), name = file.name.replace(/\.[^.]*$/, "") || "your painting";
  showOwn(bitmap, name);
  await client.ask({ kind: "style", bitmap }, [bitmap]);
  Object.assign(chosen, { style: OWN, own: name });
  await repaint();
}

function choose(style) {
  if (style === OWN && !chosen.own) {
    document.querySelector(`#styles input[value="${chosen.style}"]`).checked = true; // until a file is chosen
    return;
  }
  chosen.style = style;
  repaint();
}

function wanted(size = Number($("size").value)) {
  return {
    strength: Number($("strength").value),
    stroke: 2 ** Number($("stroke").value),
    keep: Number($("keep").value),
    size,
    whole: Number(query.get("whole")) || undefined,
  };
}

// Paint the photograph; if something changes meanwhile, paint again.
async function repaint() {
  if (document.body.dataset.state === "empty" || camera.running) return;
  if (painting) {
    again = true;
    client.stop();
    return;
  }
  painting = true;
  document.body.dataset.painting = "yes";
  try {
    do {
      again = false;
      say("Painting …");
      const begun = performance.now(), image = await paint(wanted());
      if (image && !camera.running) {
        show(image);
        say(`${image.width} × ${image.height} pixels, painted in ${((performance.now() - begun) / 1000).toFixed(1)} s`);
        document.body.dataset.state = "done";
        document.body.dataset.paintings = Number(document.body.dataset.paintings ?? 0) + 1;
        fail("");
      }
    } while (again);
  } catch (error) {
    failed(error);
  } finally {
    painting = false;
    delete document.body.dataset.painting;
  }
}

function paint(options) {
  const style = chosen.style === OWN ? null : chosen.style;
  return client.ask({ kind: "paint", style, options }, [], (share) => ($("progress").value = share));
}

// Paint what the camera sees, until it is stopped.
async function live() {
  await camera.start();
  document.body.dataset.state = "live";
  fail("");
  try {
    while (camera.running) {
      const bitmap = await camera.frame(), begun = performance.now();
      draw($("before"), bitmap);
      await client.ask({ kind: "photo", bitmap }, [bitmap]);
      const image = await paint(wanted(LIVE_SIZE));
      if (!image || !camera.running) continue;
      show(image);
      document.body.dataset.frames = Number(document.body.dataset.frames ?? 0) + 1;
      say(`${(1000 / (performance.now() - begun)).toFixed(1)} paintings a second`);
    }
  } finally {
    camera.stop();
  }
}

async function shoot() {
  const bitmap = await camera.frame();
  endCamera(true);
  await showPhoto(bitmap, "camera");
}

function endCamera(replaced) {
  if (!camera.running) return;
  camera.stop();
  if (!replaced) document.body.dataset.state = "empty";
  if (!replaced) say("Choose a photograph to begin.");
}

async function download() {
  const blob = await new Promise((done) => $("after").toBlob(done, "image/png"));
  if (!blob) throw new Error("The painting is too large for a PNG here; choose a smaller size.");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${chosen.name}-${chosen.style === OWN ? chosen.own : chosen.style}.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function draw(canvas, bitmap) {
  Object.assign(canvas, { width: bitmap.width, height: bitmap.height });
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  $("frame").style.setProperty("--ratio", bitmap.width / bitmap.height);
}

function show(image) {
  Object.assign($("after"), { width: image.width, height: image.height });
  $("after").getContext("2d").putImageData(image, 0, 0);
}

function clear(canvas) {
  canvas.width = canvas.height = 1;
}

function say(text) {
  $("status").textContent = text;
}

function fail(text) {
  $("error").textContent = text;
  $("error").hidden = !text;
}

function failed(error) {
  fail(error.message);
  say("");
}
