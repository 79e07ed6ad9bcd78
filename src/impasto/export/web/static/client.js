// The page's side of the worker.

export class Client {
  constructor() {
    this.worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    this.waiting = new Map();
    this.number = 0;
    this.worker.addEventListener("message", ({ data }) => this.receive(data));
    this.worker.addEventListener("error", (event) => {
      event.preventDefault();
      for (const { reject } of this.waiting.values()) reject(new Error("The painter cannot start here; try a newer browser."));
      this.waiting.clear();
    });
  }

  // Send a message. Resolves to the answer, or to null if the painting was stopped.
  ask(message, transfer = [], progress = () => {}) {
    const id = ++this.number;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject, progress });
      this.worker.postMessage({ ...message, id }, transfer);
    });
  }

  // Stop all that was asked for so far.
  stop() {
    this.worker.postMessage({ kind: "stop", before: this.number });
  }

  receive({ id, value, error, progress }) {
    const asked = this.waiting.get(id);
    if (!asked) return;
    if (progress !== undefined) return asked.progress(progress);
    this.waiting.delete(id);
    if (error) asked.reject(new Error(error));
    else asked.resolve(error === "" ? null : value);
  }
}
