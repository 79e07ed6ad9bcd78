// onnxruntime-web, and the graphs that it runs.
import { rounded } from "./pixels.js";

const MOST_THREADS = 8;
const GZIP = [0x1f, 0x8b];

// Read a file of the site.
export async function read(name) {
  let response;
  try {
    response = await fetch(new URL(name, import.meta.url));
  } catch {
    throw new Error(`${name} cannot be loaded; check the connection, and load the page again`);
  }
  if (!response.ok) throw new Error(`${name} cannot be loaded (${response.status}); load the page again, or build it again`);
  return response;
}

// The bytes of a file that may be stored as gzip.
async function unpacked(name) {
  const bytes = new Uint8Array(await (await read(name)).arrayBuffer());
  if (bytes[0] !== GZIP[0] || bytes[1] !== GZIP[1]) return bytes.buffer;
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

// The runtime for WebAssembly alone, or the one for WebGPU.
async function load(gpu, threads) {
  const build = gpu ? "jspi." : "";
  const ort = await import(new URL(`runtime/ort.${gpu ? "jspi" : "wasm"}.min.mjs`, import.meta.url).href);
  const name = `runtime/ort-wasm-simd-threaded.${build}`;
  ort.env.wasm.wasmPaths = { mjs: new URL(`${name}mjs`, import.meta.url).href };
  ort.env.wasm.wasmBinary = await unpacked(`${name}wasm.bin`);
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";
  return ort;
}

// How to paint here: with which processor, and with how many threads.
async function choice(wish) {
  const cores = Math.min(MOST_THREADS, navigator.hardwareConcurrency || 1);
  const threads = self.crossOriginIsolated ? Math.max(1, wish.threads || cores) : 1;
  const able = wish.processor !== "cpu" && navigator.gpu && typeof WebAssembly.Suspending === "function";
  const adapter = able ? await navigator.gpu.requestAdapter().catch(() => null) : null;
  const slow = (adapter?.info?.isFallbackAdapter ?? adapter?.isFallbackAdapter) && wish.processor !== "gpu";
  return { gpu: adapter !== null && !slow, threads }; // a fallback is the CPU, which is faster without it
}

export class Graphs {
  // Load the runtime. A GPU is used if it paints the same as the CPU.
  static async open(wish = {}) {
    const [weights, { gpu, threads }] = await Promise.all([
      read("network.bin").then((r) => r.arrayBuffer()).then((b) => new Uint8Array(b)),
      choice(wish),
    ]);
    if (gpu) {
      try {
        const found = new Graphs(await load(true, threads), weights, threads, true);
        if (await found.agrees()) return found;
        await found.close();
      } catch (error) {
        console.info(`WebGPU is not used: ${error.message}`);
      }
    }
    return new Graphs(await load(false, threads), weights, threads, false);
  }

  constructor(ort, weights, threads, gpu) {
    Object.assign(this, { ort, weights, threads, gpu, sessions: new Map() });
  }

  // Run a graph. Inputs are [numbers, shape]; returns the outputs' numbers, by name.
  async run(name, inputs, processor = this.gpu && name !== "predicting" ? "webgpu" : "wasm") {
    const session = await this.session(name, processor);
    const tensors = {};
    for (const [key, [data, shape]] of Object.entries(inputs))
      tensors[key] = new this.ort.Tensor(data instanceof BigInt64Array ? "int64" : "float32", data, shape);
    const found = await session.run(tensors);
    const numbers = {};
    for (const [key, tensor] of Object.entries(found)) {
      numbers[key] = await tensor.getData();
      tensor.dispose();
    }
    for (const tensor of Object.values(tensors)) tensor.dispose();
    return numbers;
  }

  session(name, processor) {
    const key = `${name} ${processor}`;
    if (!this.sessions.has(key)) this.sessions.set(key, this.make(name, processor));
    return this.sessions.get(key);
  }

  async make(name, processor) {
    const model = new Uint8Array(await (await read(`${name}.onnx`)).arrayBuffer());
    return this.ort.InferenceSession.create(model, {
      executionProviders: [processor],
      externalData: [{ path: "network.bin", data: this.weights }],
      enableMemPattern: false, // sizes vary
      logSeverityLevel: 3,
    });
  }

  // Whether the GPU paints a small picture as the CPU does, within 2 levels.
  async agrees() {
    const side = 64, image = Float32Array.from({ length: 3 * side * side }, (_, i) => ((i * 37) % 101) / 101);
    const site = await (await read("site.json")).json();
    const affine = new Float32Array(site.affine).fill(0.5), colours = new Float32Array([0.04, 0, 0, 0.5, 0, 0.04, 0, 0.5, 0, 0, 0.04, 0.5]);
    const inputs = { image: [image, [1, 3, side, side]], affine: [affine, [1, site.affine]], colours: [colours, [1, 3, 4]] };
    const [a, b] = [await this.run("whole", inputs, "webgpu"), await this.run("whole", inputs, "wasm")];
    await (await this.session("whole", "wasm")).release();
    this.sessions.delete("whole wasm");
    return a.painting.every((x, i) => Math.abs(rounded(255 * x) - rounded(255 * b.painting[i])) <= 2);
  }

  async close() {
    for (const session of this.sessions.values()) await (await session).release();
    this.sessions.clear();
  }
}
