// The styles, as pictures to choose from. They are radio buttons, so arrow keys move among them.

export const OWN = "own";

// The user's painting and the chosen style come first, so that both are in view.
export function fill(fieldset, styles, chosen, changed) {
  const own = entry(OWN, "Your own painting …", "", false);
  own.id = "own";
  fieldset.append(own);
  for (const style of [...styles].sort((a, b) => (b.name === chosen) - (a.name === chosen))) {
    const label = entry(style.name, style.title || style.name, `thumbnails/${style.name}.jpg`, style.name === chosen);
    label.title = [style.title, style.artist, style.date].filter(Boolean).join(", ");
    fieldset.append(label);
  }
  fieldset.addEventListener("change", (event) => changed(event.target.value));
}

function entry(value, title, picture, checked) {
  const label = document.createElement("label"), input = document.createElement("input"), image = document.createElement("span");
  const text = document.createElement("span");
  Object.assign(input, { type: "radio", name: "style", value, checked });
  image.className = "picture";
  if (picture) image.style.backgroundImage = `url("${picture}")`;
  text.className = "title";
  text.textContent = title;
  label.append(input, image, text);
  return label;
}

// Show the user's painting on its button, and choose it.
export function showOwn(bitmap, name) {
  const canvas = document.createElement("canvas"), side = 160, scale = side / Math.min(bitmap.width, bitmap.height);
  Object.assign(canvas, { width: side, height: side });
  const [width, height] = [bitmap.width * scale, bitmap.height * scale];
  canvas.getContext("2d").drawImage(bitmap, (side - width) / 2, (side - height) / 2, width, height);
  const label = document.getElementById("own");
  label.querySelector(".picture").style.backgroundImage = `url("${canvas.toDataURL("image/jpeg", 0.8)}")`;
  label.querySelector(".title").textContent = name;
  label.querySelector("input").checked = true;
  label.parentElement.scrollTo(0, 0);
}
