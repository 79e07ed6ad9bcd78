// The panel of the camera: its frames go to this server one at a time, and come back painted. While one is painted, the
// camera's other frames are dropped, so nothing is late by more than a frame.
const live = (() => {
  const { HOME, $, fill, chosen, refused, outputs } = moving;
  const QUALITY = 0.85, STEP = 0.1;
  let stage = null; // what the server began with
  let session = null, running = false, side = 384, times = [], recorder = null, stream = null;

  async function start(styles) {
    stage = await fetch(`${HOME}v1/live`).then((answer) => answer.json());
    fill($("live-styles"), styles, stage.own_styles, stage.styles.length ? stage.styles : undefined);
    $("live-blend").checked = stage.styles.length > 1;
    [$("live-strength").value, $("live-stability").value] = [stage.strength, stage.stability];
    outputs();
    if (stage.camera) {
      $("live-start").textContent = `Watch ${stage.camera.split("/").pop()}`;
      $("live-mirror").checked = false;
      say(`This server paints ${stage.camera.split("/").pop()}.`);
      if (document.body.dataset.tab === "live") begin();
    }
    mirror();
  }

  function say(text, state) {
    if ($("live-status").textContent !== text) $("live-status").textContent = text;
    if (state) $("live-view").dataset.state = state;
  }

  function mirror() {
    $("live-view").dataset.mirror = $("live-mirror").checked ? "yes" : "no";
  }

  function settings(data) {
    for (const style of chosen($("live-styles"))) data.append("style", style);
    data.append("strength", $("live-strength").value);
    data.append("stability", $("live-stability").value);
    return data;
  }

  async function begin() {
    running = true;
    times = [];
    $("live-start").textContent = "Stop";
    say("Getting ready …");
    try {
      if (stage.camera) {
        session = stage.id;
        await change();
        await loop(watched);
      } else {
        if (!navigator.mediaDevices) throw new Error("Browsers allow the camera only on localhost or with HTTPS.");
        const camera = $("live-camera");
        stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 } }, audio: false });
        camera.srcObject = stream;
        camera.hidden = !$("live-inset").checked;
        await camera.play();
        session = await create();
        await loop(sent);
      }
    } catch (error) {
      const reason = error.name === "NotAllowedError" ? "The browser was not allowed to use the camera."
        : error.name === "NotFoundError" ? "This device has no camera." : error.message;
      say(reason, "failed");
    }
    end();
  }

  function end() {
    running = false;
    if (recorder) record();
    if (session && !(stage && stage.camera)) fetch(`${HOME}v1/live/${session}`, { method: "DELETE", keepalive: true });
    session = null;
    if (stream) for (const track of stream.getTracks()) track.stop();
    stream = null;
    $("live-camera").hidden = true;
    for (const id of ["live-record", "live-full"]) $(id).disabled = true;
    $("live-start").textContent = stage && stage.camera ? "Watch again" : "Start the camera";
    if ($("live-view").dataset.state === "painting") say("Stopped.", "stopped");
  }

  async function create() {
    const data = settings(new FormData()), own = $("live-own").files[0];
    if (own) {
      data.delete("style");
      data.append("style_file", own);
      data.append("style", "file:1");
    }
    const answer = await fetch(`${HOME}v1/live`, { method: "POST", body: data });
    if (!answer.ok) throw await refused(answer);
    const view = await answer.json();
    side = view.long_side;
    return view.id;
  }

  async function change() {
    if (!session) return;
    const data = settings(new FormData());
    if (!data.has("style")) return;
    const answer = await fetch(`${HOME}v1/live/${session}`, { method: "POST", body: data });
    if (!answer.ok && answer.status !== 404) say((await refused(answer)).message);
  }

  async function loop(next) {
    let pending = next();
    while (running) {
      const answer = await pending;
      if (!running) return;
      if (answer.status === 404 && !stage.camera) session = await create(); // it was idle, as in a hidden tab
      else if (!answer.ok) throw await refused(answer);
      if (answer.status === 200) side = Number(answer.headers.get("Impasto-Side"));
      pending = next(); // the server paints it while this one is drawn
      pending.catch(() => {}); // reported when it is waited for
      if (answer.status === 200) await draw(await answer.blob(), answer.headers);
    }
  }

  let last = 0;
  async function watched() {
    const answer = await fetch(`${HOME}v1/live/${session}/frame?after=${last}`);
    if (answer.ok && answer.status === 200) last = Number(answer.headers.get("Impasto-Number"));
    return answer;
  }

  const board = document.createElement("canvas");
  async function sent() {
    const camera = $("live-camera");
    await new Promise((done) => { // the camera's next frame; a hidden page has none
      if (camera.requestVideoFrameCallback) camera.requestVideoFrameCallback(done);
      setTimeout(done, 200);
    });
    if (!running) return new Response(null, { status: 204 });
    const scale = Math.min(1, side / Math.max(camera.videoWidth, camera.videoHeight));
    [board.width, board.height] = [Math.round(camera.videoWidth * scale), Math.round(camera.videoHeight * scale)];
    board.getContext("2d").drawImage(camera, 0, 0, board.width, board.height);
    const body = await new Promise((done) => board.toBlob(done, "image/jpeg", QUALITY));
    return fetch(`${HOME}v1/live/${session}/frames`, { method: "POST", body, headers: { "Content-Type": "image/jpeg" } });
  }

  async function draw(blob, headers) {
    const picture = await createImageBitmap(blob), canvas = $("live-canvas");
    if (canvas.width !== picture.width || canvas.height !== picture.height) {
      if (!recorder) [canvas.width, canvas.height] = [picture.width, picture.height]; // a recording keeps its size
    }
    canvas.style.setProperty("--shape", canvas.width / canvas.height);
    canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
    picture.close();
    for (const id of ["live-record", "live-full"]) $(id).disabled = false;
    times = [...times, performance.now()].slice(-30);
    const rate = times.length > 1 ? (1000 * (times.length - 1)) / (times[times.length - 1] - times[0]) : 0;
    const late = Number(headers.get("Impasto-Lag"));
    $("live-view").dataset.frames = headers.get("Impasto-Number");
    say(`${rate.toFixed(0)} frames a second · ${canvas.width} × ${canvas.height}${late > 1 ? ` · ${late} frames late` : ""}`, "painting");
  }

  function record() {
    const button = $("live-record");
    if (recorder) {
      recorder.stop();
      recorder = null;
      [button.textContent, button.dataset.recording] = ["Record", "no"];
      return;
    }
    const type = ["video/mp4", "video/webm;codecs=vp9", "video/webm"].find((kind) => MediaRecorder.isTypeSupported(kind));
    const parts = [];
    recorder = new MediaRecorder($("live-canvas").captureStream(30), { mimeType: type, videoBitsPerSecond: 8e6 });
    recorder.ondataavailable = (event) => parts.push(event.data);
    recorder.onstop = () => {
      const link = $("live-download");
      if (link.href) URL.revokeObjectURL(link.href);
      link.href = URL.createObjectURL(new Blob(parts, { type }));
      link.download = `impasto-live.${type.includes("mp4") ? "mp4" : "webm"}`;
      link.hidden = false;
    };
    recorder.start(1000);
    [button.textContent, button.dataset.recording] = ["Stop recording", "yes"];
  }

  function step(by) {
    const boxes = [...document.querySelectorAll("#live-styles div input")];
    const now = boxes.findIndex((box) => box.checked);
    choose(boxes[(now + by + boxes.length) % boxes.length]);
  }

  function choose(box) {
    for (const other of document.querySelectorAll("#live-styles div input")) other.checked = other === box;
    box.scrollIntoView({ block: "nearest" });
    change();
  }

  document.addEventListener("click", (event) => {
    const id = event.target.id;
    if (id === "live-start") running ? end() : begin();
    if (id === "live-record") record();
    if (id === "live-full") $("live-canvas").requestFullscreen();
  });
  document.addEventListener("change", (event) => {
    const { target } = event;
    if (target.id === "live-mirror") return mirror();
    if (target.id === "live-inset") return void ($("live-camera").hidden = !target.checked || !stream);
    if (target.id === "live-own" && running && !stage.camera) return void restart();
    if (!target.closest("#live .palette")) return;
    if (target.closest("#live-styles div") && !$("live-blend").checked) choose(target);
    else change();
  });
  async function restart() { // a visitor's own style needs a new session
    const before = session;
    try {
      session = await create();
    } catch (error) {
      return say(error.message);
    }
    fetch(`${HOME}v1/live/${before}`, { method: "DELETE" });
  }
  document.addEventListener("keydown", (event) => {
    if (document.body.dataset.tab !== "live" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input:not([type=checkbox], [type=range]), textarea, select")) return;
    const by = { "+": STEP, "=": STEP, "-": -STEP }[event.key];
    if (by) {
      $("live-strength").value = Number($("live-strength").value) + by;
      outputs();
      change();
    }
    if (event.key === "n") step(1);
    if (event.key === "p") step(-1);
    if (event.key === "r" && !$("live-record").disabled) record();
    if (event.key === "f" && !$("live-full").disabled) $("live-canvas").requestFullscreen();
  });
  document.addEventListener("tab", (event) => {
    if (event.detail === "live" && stage && stage.camera && !running) begin();
    if (event.detail !== "live" && running && !recorder) end();
  });
  addEventListener("pagehide", () => running && end());

  return { start };
})();
