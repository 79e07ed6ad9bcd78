// The worker, in which everything is computed, so that the page stays responsive.
//
// It answers each message {id, kind, ...} with {id, value} or {id, error}. While it paints, it sends {id, progress}.
import { Painter, Stopped } from "./painting.js";
import { Graphs } from "./runtime.js";
import { Styles } from "./styles.js";

const pictures = { photo: null, style: null };
let painter = null, stopped = 0;

const does = {
  async open({ wish }) {
    const graphs = await Graphs.open(wish);
    painter = new Painter(graphs, await Styles.open(graphs));
    return { gpu: graphs.gpu, threads: graphs.threads };
  },
  async photo({ bitmap }) {
    pictures.photo = pixels(bitmap);
  },
  async style({ bitmap }) {
    pictures.style = pixels(bitmap);
  },
  async paint({ id, style, options }) {
    const step = async (progress) => {
      postMessage({ id, progress });
      await new Promise((resume) => setTimeout(resume)); // messages arrive in between
      if (id <= stopped) throw new Stopped("stopped");
    };
    return painter.paint(pictures.photo, style ?? pictures.style, options, step);
  },
};

// The pixels of a bitmap, on white.
function pixels(bitmap) {
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, bitmap.width, bitmap.height);
  context.drawImage(bitmap, 0, 0);
  const found = context.getImageData(0, 0, bitmap.width, bitmap.height);
  bitmap.close();
  return found;
}

let last = Promise.resolve();
addEventListener("message", ({ data }) => {
  if (data.kind === "stop") stopped = data.before;
  else last = last.then(() => answer(data)); // one after the other
});

async function answer(message) {
  const { id } = message;
  try {
    const value = await does[message.kind](message);
    postMessage({ id, value }, value instanceof ImageData ? [value.data.buffer] : []);
  } catch (error) {
    postMessage({ id, error: error instanceof Stopped ? "" : told(error) });
  }
}

// What went wrong, in one line, with what to do.
function told(error) {
  const text = String(error?.message ?? error).split("\n")[0];
  if (/memory|alloc|RangeError/i.test(`${error?.name} ${text}`)) return "There is not enough memory for this size; choose a smaller one.";
  return text.endsWith(".") ? text : `${text}.`;
}
