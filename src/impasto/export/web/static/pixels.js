// Pictures as numbers. Planes are a Float32Array of all red, then all green, then all blue values, sRGB in [0, 1].

// Round as Python does: halves to the even number.
export function rounded(x) {
  const down = Math.floor(x);
  return x - down === 0.5 ? down + (down % 2) : Math.round(x);
}

// The size of a picture that is reduced to a long side, or enlarged to a short one.
export function fitted({ width, height }, long, least = 1) {
  const scaled = (ratio) => ({ width: Math.max(1, rounded(width * ratio)), height: Math.max(1, rounded(height * ratio)) });
  const found = scaled(Math.min(1, long / Math.max(width, height)));
  return Math.min(found.width, found.height) < least ? scaled(least / Math.min(width, height)) : found;
}

// The planes of an ImageData at a size, by antialiased bicubic interpolation (Keys' cubic with a = -1/2).
export function planesOf({ data, width, height }, size = { width, height }) {
  const rows = taps(height, size.height), columns = taps(width, size.width);
  const out = new Float32Array(3 * size.width * size.height), row = new Float64Array(3 * width);
  for (let y = 0; y < size.height; y++) {
    row.fill(0);
    for (let t = 0; t < rows.weights[y].length; t++) {
      const weight = rows.weights[y][t] / 255, at = 4 * width * (rows.begins[y] + t);
      for (let x = 0, i = at, o = 0; x < width; x++, i += 4, o += 3) {
        row[o] += weight * data[i];
        row[o + 1] += weight * data[i + 1];
        row[o + 2] += weight * data[i + 2];
      }
    }
    for (let x = 0; x < size.width; x++) {
      const weights = columns.weights[x];
      let r = 0, g = 0, b = 0;
      for (let t = 0, i = 3 * columns.begins[x]; t < weights.length; t++, i += 3) {
        r += weights[t] * row[i];
        g += weights[t] * row[i + 1];
        b += weights[t] * row[i + 2];
      }
      const at = y * size.width + x, plane = size.width * size.height;
      out[at] = clamped(r);
      out[at + plane] = clamped(g);
      out[at + 2 * plane] = clamped(b);
    }
  }
  return { data: out, ...size };
}

const clamped = (x) => (x < 0 ? 0 : x > 1 ? 1 : x);

// The first old pixel and the weights from there on, for each new pixel of a side.
function taps(old, size) {
  const ratio = old / size, wide = Math.max(1, ratio), begins = [], weights = [];
  for (let i = 0; i < size; i++) {
    if (old === size) {
      begins.push(i), weights.push([1]);
      continue;
    }
    const centre = (i + 0.5) * ratio;
    const begin = Math.max(0, Math.floor(centre - 2 * wide + 0.5)), end = Math.min(old, Math.floor(centre + 2 * wide + 0.5));
    const found = Array.from({ length: end - begin }, (_, t) => cubic(Math.abs(begin + t + 0.5 - centre) / wide));
    const sum = found.reduce((a, b) => a + b);
    begins.push(begin), weights.push(found.map((w) => w / sum));
  }
  return { begins, weights };
}

function cubic(x) {
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}

// A part of planes, from a column and row on.
export function part(planes, left, top, width, height) {
  const out = new Float32Array(3 * width * height);
  for (let c = 0; c < 3; c++)
    for (let y = 0; y < height; y++) {
      const from = (c * planes.height + top + y) * planes.width + left;
      out.set(planes.data.subarray(from, from + width), (c * height + y) * width);
    }
  return { data: out, width, height };
}

// Write planes, without a margin at the left and top, into an ImageData.
export function place(planes, margin, image, left, top, width, height) {
  const plane = planes.width * planes.height;
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const from = (y + margin.top) * planes.width + x + margin.left, to = 4 * ((top + y) * image.width + left + x);
      for (let c = 0; c < 3; c++) image.data[to + c] = rounded(255 * planes.data[from + c * plane]);
      image.data[to + 3] = 255;
    }
}

// The covariance and mean of the colours, 3 rows of 4 numbers.
export function coloursOf({ data, width, height }) {
  const n = width * height, mean = [0, 1, 2].map((c) => data.subarray(c * n, (c + 1) * n).reduce((a, b) => a + b, 0) / n);
  const out = new Float32Array(12);
  for (let i = 0; i < 3; i++) {
    out[4 * i + 3] = mean[i];
    for (let j = i; j < 3; j++) {
      let sum = 0;
      for (let k = 0; k < n; k++) sum += (data[i * n + k] - mean[i]) * (data[j * n + k] - mean[j]);
      out[4 * i + j] = out[4 * j + i] = sum / n;
    }
  }
  return out;
}
