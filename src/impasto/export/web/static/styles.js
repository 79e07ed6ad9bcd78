// Styles as the network takes them.
import { read } from "./runtime.js";
import { coloursOf, fitted, planesOf, rounded } from "./pixels.js";

const PHOTO_SIZE = 512; // long side at which the photograph is measured for strengths other than 1

export class Styles {
  static async open(graphs) {
    const [site, entries, bytes] = await Promise.all([
      read("site.json").then((r) => r.json()),
      read("styles.json").then((r) => r.json()),
      read("styles.bin").then((r) => r.arrayBuffer()),
    ]);
    return new Styles(graphs, site, entries, bytes);
  }

  constructor(graphs, site, entries, bytes) {
    Object.assign(this, { graphs, site, bytes, entries: new Map(entries.map((e) => [e.name, e])) });
    const [first] = entries;
    const end = entries[1]?.readings ?? bytes.byteLength;
    const learnt = first.learnt ?? end;
    this.length = (learnt - first.readings) / 4 / first.sizes.length;
  }

  // The affine and colours of a style, at a strength. `style` is a name, or the ImageData of a painting.
  async bound(style, photo, planes, { stroke, strength }) {
    const size = rounded(stroke * Math.max(planes.width, planes.height));
    const found = typeof style === "string" ? await this.builtin(style, size) : await this.read(style, size, this.site.least);
    if (strength === 1) return found;
    const own = await this.read(photo, Math.min(PHOTO_SIZE, Math.max(planes.width, planes.height)), 1);
    const { photo: kept, paint, prepare } = this.site.parts;
    own.affine.fill(1, ...kept).fill(0, ...paint).fill(0, ...prepare);
    return {
      affine: between(own.affine, found.affine, strength),
      colours: between(coloursOf(planes), found.colours, Math.min(1, strength)),
    };
  }

  async builtin(name, size) {
    const entry = this.entries.get(name), { sizes } = entry;
    let above = sizes.findIndex((s) => s >= size);
    if (above < 0) above = sizes.length - 1;
    const below = sizes[above] > size ? Math.max(0, above - 1) : above;
    let reading = this.reading(entry, above);
    if (above !== below) {
      const t = Math.log(size / sizes[below]) / Math.log(sizes[above] / sizes[below]);
      reading = between(this.reading(entry, below), reading, t);
    }
    const found = await this.predicted(reading);
    if ("learnt" in entry) {
      const learnt = new Uint16Array(this.bytes, entry.learnt, this.site.learnt);
      learnt.forEach((x, i) => (found.affine[i] += half(x)));
    }
    return found;
  }

  reading(entry, place) {
    return new Float32Array(this.bytes, entry.readings + 4 * place * this.length, this.length);
  }

  // Read a style from a picture, which is reduced to a long side.
  async read(picture, size, least) {
    const { data, width, height } = planesOf(picture, fitted(picture, size, least));
    const { reading } = await this.graphs.run("reading", { picture: [data, [1, 3, height, width]] });
    return this.predicted(reading);
  }

  async predicted(reading) {
    const { affine, colours } = await this.graphs.run("predicting", { reading: [reading, [1, this.length]] });
    return { affine: Float32Array.from(affine), colours: Float32Array.from(colours) };
  }
}

function between(from, to, share) {
  return from.map((x, i) => x + share * (to[i] - x));
}

// The number that 16 bits of a float16 stand for.
function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction);
}
