// The page's live parts: frames, progress, the divider, loss curves, and the brush for regions.
// All data comes from this server's HTTP interface.
const impasto = (() => {
  const HOME = new URL("..", document.currentScript.src).href; // includes a proxy's prefix
  const $ = (id) => document.getElementById(id);
  const COLOURS = { 1: "#e4572e", 2: "#2e86de", 3: "#f2b441", only: "#7a5cc7" };
  const LOSS_COLOURS = { total: "#b3361b", content: "#3f7d4e", style: "#2a5caa" };
  const MORE_COLOURS = ["#b8862b", "#7a5cc7", "#5b8a8a", "#8a5b6b", "#6b6b6b"];
  const SIDE = 640;
  let job = null, source = null, shown = 0, rows = [], shownPhoto = false;
  let photoOf = ""; // source of the photograph that the layers belong to
  const layers = {}; // mask's name -> canvas
  const kept = {}; // job -> its masks

  function start() {
    const easel = $("easel");
    new ResizeObserver(() => easel.style.setProperty("--easel", `${easel.offsetHeight}px`)).observe(easel);
    fetch(`${HOME}v1/styles`).then((r) => r.json()).then((styles) => { // in the order of the labels
      const labels = document.querySelectorAll("#styles label");
      styles.forEach((s, i) => { if (labels[i]) labels[i].title = [s.title, s.artist, s.date].filter(Boolean).join(", "); });
    });
  }

  // ---- follow a painting

  function say(text) {
    if ($("status").textContent !== text) $("status").textContent = text;
  }

  function state(name) {
    $("view").dataset.state = name;
    document.body.dataset.painting = name === "queued" || name === "painting" ? "yes" : "no";
  }

  function duration(seconds) {
    const s = Math.max(1, Math.round(seconds));
    return s < 90 ? `${s} s` : s < 5400 ? `${Math.round(s / 60)} min` : `${(s / 3600).toFixed(1)} h`;
  }

  function follow(id) {
    if (!id) return;
    if (source) source.close();
    [job, shown, rows, shownPhoto] = [id, 0, [], false];
    if (kept[id]) restore(kept[id]);
    else kept[id] = masks();
    const photo = document.querySelector("#photo img[src]");
    $("after").removeAttribute("src");
    if (photo) $("before").src = photo.src;
    $("progress").removeAttribute("value");
    $("divide").value = 0;
    divide();
    state("queued");
    say("Getting ready …");
    if (matchMedia("(max-width: 820px)").matches) { // wait until the parts above have shrunk
      setTimeout(() => $("view").scrollIntoView({ behavior: "smooth", block: "start" }), 400);
    }
    source = new EventSource(`${HOME}v1/jobs/${id}/events`);
    for (const name of ["queued", "painting", "done", "stopped", "failed"]) {
      source.addEventListener(name, (event) => update(id, name, JSON.parse(event.data)));
    }
  }

  function update(id, name, view) {
    if (id !== job) return;
    const ended = ["done", "stopped", "failed"].includes(name);
    if (ended) source.close();
    state(name);
    if (view.iteration && !shownPhoto) {
      shownPhoto = true;
      $("before").src = `${HOME}v1/jobs/${id}/photo`;
    }
    if (view.frames > shown) frame(id, view.frames);
    if (view.losses && Object.keys(view.losses).length) {
      rows.push({ iteration: view.iteration, scale: Math.max(...view.scale), ...view.losses });
      if ($("curves").open) draw();
    }
    if (name === "queued") {
      say(view.place > 1 ? `Number ${view.place} in the queue` : view.place === 1 ? "Next in the queue" : "Getting ready …");
    } else if (name === "painting") {
      if (!view.iteration) return say("Mixing colours …");
      $("progress").value = view.iteration / view.total;
      const left = view.seconds_left === undefined ? "" : ` · about ${duration(view.seconds_left)} left`;
      say(`Stroke ${view.iteration} of ${view.total} · ${view.scale.join(" × ")}${left}`);
    } else {
      $("progress").value = name === "failed" ? 0 : 1;
      const size = view.size ? `${view.size.join(" × ")}, ` : "";
      say(view.error || view.note || `Done: ${size}painted in ${duration(view.seconds)}`);
      if (name === "failed" || !view.size) state("failed");
      else finish(id);
      $("closer").hidden = !view.tiles;
      if (view.tiles) $("closer").onclick = () => zoom.open(`${HOME}v1/jobs/${id}/tiles`, ...view.size);
    }
  }

  async function finish(id) {
    link();
    $("record").href = `${HOME}v1/jobs/${id}/record`;
    const found = await fetch(`${HOME}v1/jobs/${id}/losses`).then((r) => (r.ok ? r.json() : []));
    if (id !== job) return;
    rows = found.filter((r) => "total" in r);
    draw();
  }

  function frame(id, number) {
    shown = number;
    const next = new Image();
    next.src = `${HOME}v1/jobs/${id}/frame?number=${number}`;
    next.decode().then(() => {
      if (id === job && number >= shown) $("after").src = next.src;
    }, () => {});
  }

  function cancel() {
    if (job && document.body.dataset.painting === "yes") {
      say("Stopping; keeping the painting so far …");
      fetch(`${HOME}v1/jobs/${job}/cancel`, { method: "POST" });
    }
  }

  // ---- view and download

  function divide() {
    $("view").style.setProperty("--cut", `${$("divide").value}%`);
  }

  function link() {
    const [format, bits] = $("format").value.split("-");
    $("download").href = `${HOME}v1/jobs/${job}/result?format=${format}${bits ? `&bits=${bits}` : ""}`;
  }

  function draw() {
    const svg = document.querySelector("#curves svg"), legend = document.querySelector("#curves .legend");
    const names = rows.length ? Object.keys(rows[0]).filter((k) => k !== "iteration" && k !== "scale") : [];
    const values = rows.flatMap((r) => names.map((n) => r[n])).filter((v) => v > 0);
    if (rows.length < 2 || !values.length) {
      svg.innerHTML = "";
      legend.textContent = "A network paints in one pass, so there are no loss curves.";
      return;
    }
    const [low, high] = [Math.log(Math.min(...values)), Math.log(Math.max(...values))];
    const [first, last] = [rows[0].iteration, rows[rows.length - 1].iteration];
    const x = (i) => 58 + (534 * (i - first)) / Math.max(1, last - first);
    const y = (v) => 10 + 180 * (1 - (Math.log(v) - low) / Math.max(1e-9, high - low));
    const parts = rows.slice(1).filter((r, i) => r.scale !== rows[i].scale)
      .map((r) => `<line x1="${x(r.iteration)}" x2="${x(r.iteration)}" y1="10" y2="190" class="scale"/>`);
    let spare = 0;
    const colour = Object.fromEntries(names.map((n) => [n, LOSS_COLOURS[n] || MORE_COLOURS[spare++ % MORE_COLOURS.length]]));
    for (const n of names) {
      const points = rows.filter((r) => r[n] > 0).map((r) => `${x(r.iteration).toFixed(1)},${y(r[n]).toFixed(1)}`);
      parts.push(`<polyline points="${points.join(" ")}" stroke="${colour[n]}"/>`);
    }
    const tick = (v) => `<text x="52" y="${y(v) + 4}" text-anchor="end">${v.toPrecision(2)}</text>`;
    parts.push(tick(Math.exp(low)), tick(Math.exp(high)));
    parts.push(`<text x="58" y="210">${first}</text><text x="592" y="210" text-anchor="end">iteration ${last}</text>`);
    svg.innerHTML = parts.join("");
    legend.innerHTML = names.map((n) => `<span style="--colour:${colour[n]}">${n}</span>`).join(" ");
  }

  function thumbnails() {
    setTimeout(() => { // after the list is updated
      for (const label of document.querySelectorAll("#history label")) {
        const id = label.querySelector("input").value;
        label.style.setProperty("--thumbnail", `url("${HOME}v1/jobs/${encodeURIComponent(id)}/frame")`);
      }
    }, 100);
  }

  // ---- the brush

  function layer(name) {
    const board = $("canvas");
    if (!layers[name]) layers[name] = document.createElement("canvas");
    if (layers[name].width !== board.width || layers[name].height !== board.height) {
      [layers[name].width, layers[name].height] = [board.width, board.height];
    }
    return layers[name];
  }

  // Called when the photograph changes. `preview` is a data URL for files that browsers cannot show.
  function photo(preview) {
    setTimeout(() => {
      const picture = document.querySelector("#photo img[src]"), board = $("canvas");
      if (picture && preview && picture.src !== preview) picture.src = preview;
      document.body.dataset.photo = picture ? "yes" : "no";
      if (!board || !picture) return;
      const fit = () => {
        const scale = SIDE / Math.max(picture.naturalWidth, picture.naturalHeight);
        const [w, h] = [Math.round(picture.naturalWidth * scale), Math.round(picture.naturalHeight * scale)];
        if (board.width !== w || board.height !== h) [board.width, board.height] = [w, h];
        if (photoOf !== picture.src) for (const name of Object.keys(layers)) delete layers[name];
        photoOf = picture.src;
        if (waiting && Date.now() < waiting.until) restore(waiting.text);
        paintBoard();
      };
      if (picture.complete && picture.naturalWidth) fit();
      else picture.addEventListener("load", fit, { once: true });
    }, 50);
  }

  function paintBoard() {
    const board = $("canvas"), picture = document.querySelector("#photo img[src]"), pen = board.getContext("2d");
    pen.globalAlpha = 1;
    pen.clearRect(0, 0, board.width, board.height);
    if (picture) pen.drawImage(picture, 0, 0, board.width, board.height);
    pen.globalAlpha = 0.55;
    for (const name of Object.keys(layers)) pen.drawImage(layers[name], 0, 0);
  }

  let last = null;
  function stroke(event) {
    const board = $("canvas"), box = board.getBoundingClientRect(), scale = board.width / box.width;
    const at = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    const pen = layer($("target").value).getContext("2d");
    pen.globalCompositeOperation = $("eraser").checked ? "destination-out" : "source-over";
    pen.strokeStyle = COLOURS[$("target").value];
    pen.lineWidth = ($("width").value / 100) * Math.min(board.width, board.height) * 2;
    [pen.lineCap, pen.lineJoin] = ["round", "round"];
    pen.beginPath();
    pen.moveTo(...(last || at));
    pen.lineTo(...at);
    pen.stroke();
    last = at;
    paintBoard();
  }

  function masks() {
    const found = {};
    for (const [name, canvas] of Object.entries(layers)) found[name] = canvas.toDataURL("image/png");
    return JSON.stringify(found);
  }

  let waiting = null;
  function restore(text) {
    for (const name of Object.keys(layers)) delete layers[name];
    for (const [name, data] of Object.entries(JSON.parse(text))) {
      const picture = new Image();
      picture.onload = () => {
        const canvas = document.createElement("canvas");
        [canvas.width, canvas.height] = [picture.width, picture.height];
        canvas.getContext("2d").drawImage(picture, 0, 0);
        layers[name] = canvas;
        paintBoard();
      };
      picture.src = data;
    }
    waiting = { text, until: Date.now() + 3000 }; // the photograph may load a moment later
  }

  document.addEventListener("pointerdown", (event) => {
    if (event.target.id !== "canvas") return;
    event.preventDefault();
    event.target.setPointerCapture(event.pointerId);
    last = null;
    stroke(event);
  });
  document.addEventListener("pointermove", (event) => {
    if (event.target.id === "canvas" && event.buttons & 1) stroke(event);
  });
  document.addEventListener("click", (event) => {
    if (event.target.id !== "clear") return;
    delete layers[$("target").value];
    paintBoard();
  });
  document.addEventListener("paste", async (event) => {
    const file = [...event.clipboardData.files].find((f) => f.type.startsWith("image/"));
    if (!file) return;
    event.preventDefault();
    const find = (what) => document.querySelector(`#photo ${what}`);
    const settled = async (test) => { // Gradio rebuilds the field when the picture is removed
      for (let i = 0; i < 60 && !test(); i++) await new Promise((done) => setTimeout(done, 50));
      await new Promise((done) => setTimeout(done, 150));
    };
    if (find("img[src]")) {
      find(".icon-button-wrapper button").click();
      await settled(() => !find("img[src]"));
    }
    if (!find(".source-selection button").classList.contains("selected")) find(".source-selection button").click();
    const field = () => find("input[type=file]");
    await settled(field);
    const files = new DataTransfer();
    files.items.add(file);
    field().files = files.files;
    field().dispatchEvent(new Event("change", { bubbles: true }));
  });
  document.addEventListener("input", (event) => {
    if (event.target.id === "divide") divide();
    if (event.target.id === "format") link();
  });
  document.addEventListener("toggle", (event) => {
    if (event.target.id === "curves" && event.target.open) draw();
  }, true);

  return { start, follow, cancel, masks, photo, thumbnails };
})();
window.impasto = impasto;
