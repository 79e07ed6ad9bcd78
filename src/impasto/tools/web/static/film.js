// The panel of films: send one, see a frame painted at once, paint it, watch it, download it.
const film = (() => {
  const { HOME, $, fill, chosen, refused, duration, outputs } = moving;
  const ENDED = ["done", "stopped", "failed"];
  let file = null; // the film on this machine
  let sent = null; // the job that holds it on the server
  let shown = null; // the job whose frame or film is in view
  let looking = null; // the job whose frame is being painted
  let job = null, painting = false, asked = 0, timer = 0;

  function start(styles) {
    fill($("film-styles"), styles);
    outputs();
  }

  function say(text, state) {
    $("film-status").textContent = text;
    if (state) $("film-view").dataset.state = state;
  }

  function bar(share) {
    $("film-progress").hidden = share === null;
    if (share !== null) $("film-progress").value = share;
  }

  async function open(chosenFile) {
    forget();
    [file, sent, shown] = [chosenFile, null, null];
    $("film-drop").classList.add("small");
    $("film-drop").querySelector("span").textContent = `${file.name}. Drop another, or click to choose one.`;
    const original = $("film-original");
    if (original.src) URL.revokeObjectURL(original.src);
    original.src = URL.createObjectURL(file);
    original.hidden = false;
    original.onerror = () => { original.hidden = true; }; // this browser cannot play it; the server can read it
    for (const id of ["film-painted", "film-result", "film-download", "film-more"]) $(id).hidden = true;
    $("film-view").dataset.two = "no";
    $("film-paint").disabled = false;
    estimate();
    preview();
  }

  function forget() {
    for (const id of new Set([sent, shown, job])) {
      if (id) fetch(`${HOME}v1/videos/${id}`, { method: "DELETE", keepalive: true });
    }
    job = null;
  }

  function form(frame) {
    const data = new FormData(), own = [...$("film-own").files];
    if (sent) data.append("again", sent);
    else data.append("content", file);
    for (const style of chosen($("film-styles"))) data.append("style", style);
    own.forEach((picture, i) => { data.append("style_file", picture); data.append("style", `file:${i + 1}`); });
    for (const field of document.querySelectorAll("#film [name]:not([type=radio]:not(:checked))")) {
      if (field.value.trim()) data.append(field.name, field.value.trim());
    }
    if (frame !== undefined) data.append("frame", frame);
    return data;
  }

  // The film is sent once; XMLHttpRequest reports the progress.
  function send(data) {
    return new Promise((done, fail) => {
      const request = new XMLHttpRequest();
      request.open("POST", `${HOME}v1/videos`);
      request.upload.onprogress = (event) => {
        if (event.total < 1e6) return;
        bar(event.loaded / event.total);
        say(`Sending the film: ${Math.round((100 * event.loaded) / event.total)} %`);
      };
      request.onload = async () => {
        if (request.status === 201) done(JSON.parse(request.responseText));
        else fail(await refused(new Response(request.responseText, { status: request.status })));
      };
      request.onerror = () => fail(new Error("The server does not answer."));
      request.send(data);
    });
  }

  function follow(id, each) {
    return new Promise((done) => {
      const source = new EventSource(`${HOME}v1/videos/${id}/events`);
      for (const name of ["queued", "painting", ...ENDED]) {
        source.addEventListener(name, (event) => {
          const view = JSON.parse(event.data);
          if (ENDED.includes(name)) {
            source.close();
            done(view);
          } else each(view);
        });
      }
    });
  }

  function queued(view) {
    return view.place > 1 ? `Number ${view.place} in the queue` : "Next in the queue";
  }

  // Each quality's card says how large the film becomes and about how long that takes, once the server knows the film.
  function estimate({ size, estimates = {}, max_seconds: most } = {}) {
    for (const card of document.querySelectorAll("#film-quality label")) {
      const seconds = estimates[card.querySelector("input").value];
      const about = seconds === undefined ? "" : `, about ${duration(seconds)}`;
      const limit = seconds > most ? `; this server stops after ${duration(most)}` : "";
      card.querySelector("span").textContent = size ? `${Math.max(...size)} px${about}${limit}` : "";
    }
  }

  // A frame that nobody waits for any more is not painted to its end. Its job stays if it holds the film.
  function overlook() {
    if (looking) fetch(`${HOME}v1/videos/${looking}/cancel`, { method: "POST" });
    looking = null;
  }

  async function preview() {
    if (!file || painting) return;
    const mine = ++asked, of = file;
    overlook();
    if (!chosen($("film-styles")).length && !$("film-own").files.length) return say("Choose a style.", "empty");
    say("Painting a frame …", "preview");
    try {
      const view = await send(form($("film-original").currentTime || 0));
      bar(null);
      if (of !== file || (mine !== asked && sent)) return void fetch(`${HOME}v1/videos/${view.id}`, { method: "DELETE" });
      estimate(view);
      const before = shown;
      sent = sent || view.id;
      shown = looking = view.id;
      if (mine !== asked) overlook();
      const end = await follow(view.id, (now) => {
        if (mine !== asked) return;
        if (now.status === "queued") return say(queued(now));
        say(now.seconds_left === undefined ? "Painting a frame …" : `Painting a frame · about ${duration(now.seconds_left)} left`);
      });
      if (looking === view.id) looking = null;
      if (before && before !== sent) fetch(`${HOME}v1/videos/${before}`, { method: "DELETE" });
      if (mine !== asked) return;
      if (end.status !== "done") throw new Error(end.error || end.note);
      estimate(end);
      $("film-painted").src = `${HOME}v1/videos/${view.id}/frame?${mine}`;
      $("film-painted").hidden = false;
      $("film-view").dataset.two = $("film-original").hidden ? "no" : "yes";
      say("This is how a frame looks. Move the film to see another.", "preview");
    } catch (error) {
      bar(null);
      if (mine === asked) say(error.message, "failed");
    }
  }

  function later() {
    clearTimeout(timer);
    timer = setTimeout(preview, 300);
  }

  function buttons() {
    $("film-paint").disabled = painting || !file;
    $("film-cancel").hidden = !painting;
  }

  async function paint() {
    if (!file || painting) return;
    painting = true;
    asked++;
    overlook();
    buttons();
    $("film-original").pause();
    $("film-original").hidden = true;
    for (const id of ["film-result", "film-download", "film-more"]) $(id).hidden = true;
    $("film-view").dataset.two = "no";
    say("Getting ready …", "painting");
    try {
      const view = await send(form());
      estimate(view);
      if (job && job !== sent) fetch(`${HOME}v1/videos/${job}`, { method: "DELETE" });
      job = view.id;
      sent = sent || view.id;
      let frames = 0;
      const end = await follow(view.id, (now) => {
        if (now.status === "queued") return say(queued(now));
        if (now.frames > frames) {
          frames = now.frames;
          $("film-painted").src = `${HOME}v1/videos/${view.id}/frame?number=${frames}`;
          $("film-painted").hidden = false;
        }
        bar(now.total ? now.done / now.total : 0);
        const left = now.seconds_left === undefined ? "" : ` · about ${duration(now.seconds_left)} left`;
        const rate = now.seconds > 1 && now.done ? ` · ${pace(now.done / now.seconds)}` : "";
        say(now.done ? `Frame ${now.done}${now.total ? ` of ${now.total}` : ""}${rate}${left}` : "Mixing colours …");
      });
      bar(null);
      if (end.status === "done") finish(end);
      else say(end.error || end.note, end.status);
    } catch (error) {
      bar(null);
      say(error.message, "failed");
    }
    painting = false;
    buttons();
    if ($("film-view").dataset.state !== "done") $("film-original").hidden = Boolean($("film-original").error);
  }

  function pace(rate) {
    return rate >= 1 ? `${rate.toFixed(1)} a second` : `${(1 / rate).toFixed(1)} s a frame`;
  }

  function finish(view) {
    const at = `${HOME}v1/videos/${view.id}/result`, result = $("film-result");
    estimate(view);
    say(view.note || `Done: ${view.done} frames, ${view.size.join(" × ")}, painted in ${duration(view.seconds)}`, "done");
    $("film-download").href = at;
    $("film-download").hidden = false;
    $("film-command").textContent = view.command;
    $("film-more").hidden = false;
    result.hidden = !result.canPlayType(view.media_type) && !["video/mp4", "video/webm"].includes(view.media_type);
    $("film-painted").hidden = !result.hidden;
    result.onerror = () => { [result.hidden, $("film-painted").hidden] = [true, false]; };
    if (!result.hidden) result.src = at;
  }

  document.addEventListener("change", (event) => {
    if (event.target.id === "film-file" && event.target.files.length) open(event.target.files[0]);
    else if (event.target.closest("#film .palette")) later();
  });
  document.addEventListener("seeked", (event) => {
    if (event.target.id === "film-original") later();
  }, true);
  document.addEventListener("click", (event) => {
    if (event.target.id === "film-paint") paint();
    if (event.target.id === "film-cancel") fetch(`${HOME}v1/videos/${job}/cancel`, { method: "POST" });
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      if (document.body.dataset.tab !== "film") return;
      event.preventDefault();
      $("film-drop").classList.toggle("over", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files.length) open(event.dataTransfer.files[0]);
    });
  }
  addEventListener("pagehide", forget);

  return { start };
})();
