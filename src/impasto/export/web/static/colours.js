// Keeping the photograph's colours: the lightness of the painting with the chroma of the photograph, in OKLab
// (B. Ottosson, "A perceptual color space for image processing", 2020). Colours outside sRGB first move towards the
// photograph's lightness, by at most 0.05, and then lose chroma.

const LMS = [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566], [0.0883024619, 0.2817188376, 0.6299787005]];
const LAB = [[0.2104542553, 0.793617785, -0.0040720468], [1.9779984951, -2.428592205, 0.4505937099], [0.0259040371, 0.7827717662, -0.8086757660]];
const TO_LMS = inverse(LMS), TO_ROOTS = inverse(LAB);
const MOST_SHIFT = 0.05, TOLERANCE = 1e-5, HALVINGS = 12;

// Change the painting's planes in place; both have the same size.
export function keepColours(painting, photo, strength) {
  const n = painting.width * painting.height, a = painting.data, b = photo.data;
  for (let i = 0; i < n; i++) {
    const light = oklab(a[i], a[i + n], a[i + 2 * n]), colour = oklab(b[i], b[i + n], b[i + 2 * n]);
    const mixed = [light[0], light[1] + strength * (colour[1] - light[1]), light[2] + strength * (colour[2] - light[2])];
    const rgb = linear(intoGamut(mixed, colour[0]));
    for (let c = 0; c < 3; c++) a[i + c * n] = srgb(rgb[c]);
  }
}

function intoGamut(lab, lightness) {
  const start = [Math.min(1, Math.max(0, lab[0])), lab[1], lab[2]];
  if (inside(linear(start))) return start;
  const shift = Math.min(MOST_SHIFT, Math.max(-MOST_SHIFT, lightness - start[0]));
  const moved = towards(start, [start[0] + shift, start[1], start[2]]);
  return towards(moved, [moved[0], 0, 0]);
}

// The first colour inside sRGB on the way from start to end, or the end.
function towards(start, end) {
  if (inside(linear(start))) return start;
  const at = (t) => start.map((x, i) => x + t * (end[i] - x));
  let low = 0, high = 1;
  for (let i = 0; i < HALVINGS; i++) {
    const middle = (low + high) / 2;
    if (inside(linear(at(middle)))) high = middle;
    else low = middle;
  }
  return at(high);
}

const inside = (rgb) => rgb.every((x) => x >= -TOLERANCE && x <= 1 + TOLERANCE);
const oklab = (r, g, b) => times(LAB, times(LMS, [light(r), light(g), light(b)]).map((x) => Math.cbrt(Math.max(0, x))));
const linear = (lab) => times(TO_LMS, times(TO_ROOTS, lab).map((x) => x * x * x));
const light = (x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);

function srgb(x) {
  const v = Math.min(1, Math.max(0, x));
  return v <= 0.0031308 ? v * 12.92 : Math.min(1, 1.055 * v ** (1 / 2.4) - 0.055);
}

function times(m, v) {
  return [0, 1, 2].map((i) => m[i][0] * v[0] + m[i][1] * v[1] + m[i][2] * v[2]);
}

function inverse(m) {
  const minor = (i, j) => {
    const [a, b] = [0, 1, 2].filter((k) => k !== i), [c, d] = [0, 1, 2].filter((k) => k !== j);
    return (m[a][c] * m[b][d] - m[a][d] * m[b][c]) * ((i + j) % 2 ? -1 : 1);
  };
  const determinant = m[0][0] * minor(0, 0) + m[0][1] * minor(0, 1) + m[0][2] * minor(0, 2);
  return [0, 1, 2].map((i) => [0, 1, 2].map((j) => minor(j, i) / determinant));
}
