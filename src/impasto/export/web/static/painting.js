// Painting a photograph: as a whole, or, if it is large, in tiles with statistics from samples of it.
import { keepColours } from "./colours.js";
import { fitted, part, place, planesOf } from "./pixels.js";

const WHOLE = 1_600_000; // most pixels that are painted at once
const TILE = 512;
const SAMPLES = 16;

// Thrown when a painting is no longer wanted.
export class Stopped extends Error {}

export class Painter {
  constructor(graphs, styles) {
    Object.assign(this, { graphs, styles, site: styles.site, planes: null, of: null });
  }

  // Paint an ImageData. Returns an ImageData. `step` receives the share that is done, and throws to stop.
  async paint(photo, style, options, step) {
    const planes = this.sized(photo, options.size);
    const bound = await this.styles.bound(style, photo, planes, options);
    await step(0.05);
    const image = new ImageData(planes.width, planes.height);
    const large = planes.width * planes.height > (options.whole || WHOLE);
    const { side } = this.site.samples;
    if (large && Math.min(planes.width, planes.height) >= side) await this.tiles(planes, bound, options, image, step);
    else {
      const found = await this.graphs.run("whole", { image: tensor(planes), ...inputs(bound) });
      const painting = { ...planes, data: found.painting };
      if (options.keep) keepColours(painting, planes, options.keep);
      place(painting, { left: 0, top: 0 }, image, 0, 0, planes.width, planes.height);
    }
    return image;
  }

  // The photograph's planes at a size. Those of the last call are kept.
  sized(photo, long) {
    const size = fitted(photo, long);
    if (this.of !== photo || this.planes.width !== size.width || this.planes.height !== size.height) {
      this.planes = null; // before there is a second one
      this.planes = planesOf(photo, size);
      this.of = photo;
    }
    return this.planes;
  }

  async tiles(planes, bound, options, image, step) {
    const { width, height } = planes, { margin } = this.site;
    const measured = await this.graphs.run("samples", { ...this.samples(planes), affine: inputs(bound).affine });
    const given = {
      statistics: [Float32Array.from(measured.statistics), [1, 2, this.site.channels]],
      painted: [Float32Array.from(measured.painted), [1, 3, 4]],
    };
    const across = Math.ceil(width / TILE), down = Math.ceil(height / TILE);
    for (let i = 0; i < across * down; i++) {
      await step(0.1 + (0.9 * i) / (across * down));
      const left = TILE * (i % across), top = TILE * Math.floor(i / across);
      const right = Math.min(width, left + TILE), bottom = Math.min(height, top + TILE);
      const x = Math.max(0, left - margin), y = Math.max(0, top - margin);
      const tile = part(planes, x, y, Math.min(width, right + margin) - x, Math.min(height, bottom + margin) - y);
      const origin = [BigInt64Array.from([BigInt(y), BigInt(x)]), [2]];
      const found = await this.graphs.run("tile", { image: tensor(tile), ...inputs(bound), ...given, origin });
      const painting = { ...tile, data: found.painting };
      if (options.keep) keepColours(painting, tile, options.keep);
      place(painting, { left: left - x, top: top - y }, image, left, top, right - left, bottom - top);
    }
  }

  // Squares of the photograph, spread evenly over it, and where they are.
  samples(planes) {
    const { side } = this.site.samples;
    const across = Math.min(SAMPLES, Math.max(1, Math.round(Math.sqrt((SAMPLES * planes.width) / planes.height))));
    const down = Math.max(1, Math.round(SAMPLES / across)), count = across * down;
    const data = new Float32Array(count * 3 * side * side), origins = new BigInt64Array(2 * count);
    const at = (i, n, length) => Math.floor(((i + 0.5) * (length - side)) / n);
    for (let i = 0; i < count; i++) {
      const left = at(i % across, across, planes.width), top = at(Math.floor(i / across), down, planes.height);
      data.set(part(planes, left, top, side, side).data, i * 3 * side * side);
      origins.set([BigInt(top), BigInt(left)], 2 * i);
    }
    return { image: [data, [count, 3, side, side]], origins: [origins, [count, 2]] };
  }
}

const tensor = ({ data, width, height }) => [data, [1, 3, height, width]];
const inputs = ({ affine, colours }) => ({ affine: [affine, [1, affine.length]], colours: [colours, [1, 3, 4]] });
