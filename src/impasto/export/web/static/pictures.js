// Where pictures come from: files, drops, the clipboard, and the camera.

export const MOST_SIDE = 4096; // larger photographs are reduced while they are read

// Read a picture file into a bitmap, turned as the camera says.
export async function bitmapOf(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    throw new Error(`${file.name || "The picture"} cannot be read here; choose a JPEG, PNG or WebP file.`);
  }
  const long = Math.max(bitmap.width, bitmap.height);
  if (long <= MOST_SIDE) return bitmap;
  const size = (side) => Math.max(1, Math.round((side * MOST_SIDE) / long));
  const options = { resizeWidth: size(bitmap.width), resizeHeight: size(bitmap.height), resizeQuality: "high" };
  const reduced = await createImageBitmap(bitmap, options);
  bitmap.close();
  return reduced;
}

// Call `found(file)` with each picture that is dropped on the page or pasted into it.
export function listen(found) {
  const first = (list) => [...(list ?? [])].find((f) => f.type.startsWith("image/")) ?? list?.[0];
  addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.dataset.drag = "yes";
  });
  addEventListener("dragleave", (event) => event.relatedTarget || delete document.body.dataset.drag);
  addEventListener("drop", (event) => {
    event.preventDefault();
    delete document.body.dataset.drag;
    const file = first(event.dataTransfer?.files);
    if (file) found(file, event.target.closest?.("#palette") ? "style" : "photo");
  });
  addEventListener("paste", (event) => {
    const file = first(event.clipboardData?.files);
    if (file) found(file, "photo");
  });
}

export class Camera {
  constructor(video) {
    Object.assign(this, { video, stream: null });
  }

  async start() {
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ video: { width: 1280, facingMode: "environment" } });
    } catch {
      throw new Error("There is no camera to use; allow it for this page, or choose a photograph.");
    }
    this.video.srcObject = this.stream;
    await this.video.play();
  }

  get running() {
    return this.stream !== null;
  }

  frame() {
    return createImageBitmap(this.video);
  }

  stop() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.video.srcObject = this.stream = null;
  }
}
