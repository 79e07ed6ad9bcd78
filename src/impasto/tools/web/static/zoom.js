// A viewer for large paintings: draws the tiles of the DeepZoom level that fits the zoom, and loads only those in view.
const zoom = (() => {
  const TILE = 254, OVERLAP = 1, MOST = 8; // MOST: screen pixels per pixel of the painting
  const tiles = new Map(); // path -> picture; the least recently drawn first
  const KEPT = 300;
  let dialog, board, pen, base, size, top_level, scale, x, y, held = null;

  // Opens a painting of `width` x `height` pixels, whose tiles are at `address`/level/column/row.
  function open(address, width, height) {
    [base, size, top_level] = [address, [width, height], Math.ceil(Math.log2(Math.max(width, height)))];
    if (!dialog) build();
    tiles.clear();
    dialog.showModal();
    fit();
  }

  function build() {
    dialog = document.createElement("dialog");
    dialog.id = "zoom";
    dialog.setAttribute("aria-label", "The painting in every detail");
    dialog.innerHTML = `<canvas tabindex="0" role="img" aria-label="The painting. Arrow keys move it, plus and minus zoom."></canvas>
      <div class="tools"><button data-zoom="2" aria-label="Zoom in">+</button><button data-zoom="0.5" aria-label="Zoom out">−</button>
      <button data-zoom="fit">Whole</button><button data-zoom="one">1:1</button><button data-zoom="close" aria-label="Close">✕</button></div>`;
    document.body.append(dialog);
    board = dialog.querySelector("canvas");
    pen = board.getContext("2d");
    new ResizeObserver(() => dialog.open && draw()).observe(board);
    dialog.addEventListener("click", (event) => {
      const to = event.target.dataset.zoom;
      if (to === "close") dialog.close();
      else if (to === "fit") fit();
      else if (to === "one") by(1 / (scale * density()));
      else if (to) by(Number(to));
    });
    board.addEventListener("wheel", (event) => {
      event.preventDefault();
      by(2 ** (-event.deltaY / 300), event.offsetX, event.offsetY);
    }, { passive: false });
    const pointers = new Map();
    board.addEventListener("pointerdown", (event) => {
      board.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    });
    board.addEventListener("pointermove", (event) => {
      if (!pointers.has(event.pointerId)) return;
      const before = [...pointers.values()];
      pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
      const after = [...pointers.values()];
      const middle = (all) => [0, 1].map((i) => all.reduce((sum, p) => sum + p[i], 0) / all.length);
      const [from, to] = [middle(before), middle(after)];
      move(from[0] - to[0], from[1] - to[1]);
      if (after.length === 2) {
        const apart = (all) => Math.hypot(all[0][0] - all[1][0], all[0][1] - all[1][1]);
        by(apart(after) / Math.max(1, apart(before)), ...to);
      }
    });
    for (const name of ["pointerup", "pointercancel"]) board.addEventListener(name, (event) => pointers.delete(event.pointerId));
    board.addEventListener("dblclick", (event) => by(2, event.offsetX, event.offsetY));
    dialog.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-80, 0], ArrowRight: [80, 0], ArrowUp: [0, -80], ArrowDown: [0, 80] }[event.key];
      if (step) move(...step);
      else if (event.key === "+" || event.key === "=") by(2);
      else if (event.key === "-") by(0.5);
      else return;
      event.preventDefault();
    });
  }

  const density = () => window.devicePixelRatio || 1;
  const fitting = () => Math.min(board.clientWidth / size[0], board.clientHeight / size[1]);

  function fit() {
    [scale, x, y] = [fitting(), size[0] / 2, size[1] / 2]; // CSS pixels per pixel, and the middle of the view
    draw();
  }

  // Zooms by a factor, around a point of the board, its middle by default.
  function by(factor, left = board.clientWidth / 2, top = board.clientHeight / 2) {
    const next = Math.min(MOST, Math.max(fitting(), scale * factor));
    const away = [left - board.clientWidth / 2, top - board.clientHeight / 2];
    x += away[0] / scale - away[0] / next;
    y += away[1] / scale - away[1] / next;
    scale = next;
    move(0, 0);
  }

  function move(right, down) {
    x = Math.min(size[0], Math.max(0, x + right / scale));
    y = Math.min(size[1], Math.max(0, y + down / scale));
    draw();
  }

  function draw() {
    if (held === null) held = requestAnimationFrame(() => { held = null; paint(); });
  }

  function paint() {
    const ratio = density(), [width, height] = [board.clientWidth, board.clientHeight];
    [board.width, board.height] = [Math.round(width * ratio), Math.round(height * ratio)];
    pen.imageSmoothingEnabled = scale * ratio < 2;
    const wanted = Math.max(0, Math.min(top_level, Math.ceil(top_level + Math.log2(scale * ratio))));
    for (const level of [Math.min(8, wanted), wanted]) { // the whole at 256 pixels shows until the parts are there
      const part = 2 ** (top_level - level); // pixels of the painting per pixel of the level
      const [left, top] = [x - width / 2 / scale, y - height / 2 / scale];
      const range = (from, length, whole) => {
        const most = Math.ceil(Math.ceil(whole / part) / TILE) - 1;
        return [from, from + length].map((at) => Math.min(most, Math.max(0, Math.floor(at / part / TILE))));
      };
      const [[c0, c1], [r0, r1]] = [range(left, width / scale, size[0]), range(top, height / scale, size[1])];
      for (let row = r0; row <= r1; row++) {
        for (let column = c0; column <= c1; column++) {
          const picture = tile(`${level}/${column}/${row}`);
          if (!picture.complete || !picture.naturalWidth) continue;
          const begin = [column, row].map((n) => Math.max(0, n * TILE - OVERLAP) * part);
          const zoomed = scale * ratio * part;
          pen.drawImage(picture, (begin[0] - left) * scale * ratio, (begin[1] - top) * scale * ratio,
            picture.naturalWidth * zoomed, picture.naturalHeight * zoomed);
        }
      }
    }
  }

  function tile(path) {
    const found = tiles.get(path) || new Image();
    tiles.delete(path);
    tiles.set(path, found);
    if (!found.src) {
      found.onload = draw;
      found.src = `${base}/${path}`;
    }
    while (tiles.size > KEPT) tiles.delete(tiles.keys().next().value);
    return found;
  }

  return { open };
})();
