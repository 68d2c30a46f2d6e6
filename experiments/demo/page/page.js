// Renders strokes to an image of PAPER x PAPER bytes and requests its prediction: one request at a time, always for the
// newest drawing.

const PAPER = 168;
const SCREEN_PEN = 0.07; // of the paper's side
const MNIST_PEN = 0.12; // of the longer side of the drawing: what MNIST's strokes have
const STEP = 1 / 32; // of the paper's side, by an arrow key
const DIGITS = [...Array(10).keys()];

const $ = (id) => document.getElementById(id);
const paper = $("paper");
const strokes = []; // lists of [x, y] in 0..1
let pen = null; // the stroke that is being drawn
const cursor = { at: [0.5, 0.25], shown: false, down: false };

// Drawing ---------------------------------------------------------------------------------------------------------

function trace(context, side, width) {
  context.lineCap = context.lineJoin = "round";
  context.lineWidth = width * side;
  for (const points of strokes) {
    const at = points.map(([x, y]) => [x * side, y * side]);
    context.beginPath();
    context.moveTo(...at[0]);
    for (let i = 1; i < at.length - 1; i++) {
      const [[x, y], [nextX, nextY]] = [at[i], at[i + 1]];
      context.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
    }
    context.lineTo(at.at(-1)[0] + 0.01, at.at(-1)[1]); // a line of no length would leave no dot
    context.stroke();
  }
}

function paint() {
  const side = Math.round(paper.clientWidth * devicePixelRatio);
  if (paper.width !== side) paper.width = paper.height = side;
  const context = paper.getContext("2d");
  const style = getComputedStyle(document.documentElement);
  context.clearRect(0, 0, side, side);
  context.strokeStyle = style.getPropertyValue("--ink");
  trace(context, side, SCREEN_PEN);
  if (!cursor.shown) return;
  context.strokeStyle = style.getPropertyValue("--accent");
  context.lineWidth = side / 150;
  context.beginPath();
  context.arc(cursor.at[0] * side, cursor.at[1] * side, (cursor.down ? 0.03 : 0.05) * side, 0, 2 * Math.PI);
  context.stroke();
}

function render() {
  const canvas = new OffscreenCanvas(PAPER, PAPER);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const [xs, ys] = [0, 1].map((axis) => strokes.flat().map((point) => point[axis]));
  const range = (values) => values.reduce((a, b) => Math.max(a, b)) - values.reduce((a, b) => Math.min(a, b));
  trace(context, PAPER, MNIST_PEN * Math.max(range(xs), range(ys), SCREEN_PEN));
  const pixels = context.getImageData(0, 0, PAPER, PAPER).data;
  return Uint8Array.from({ length: PAPER * PAPER }, (_, i) => pixels[4 * i + 3]);
}

function changed() {
  document.body.classList.toggle("drawn", strokes.length > 0);
  $("undo").disabled = $("clear").disabled = strokes.length === 0;
  paint();
  if (strokes.length) update();
  else show(null);
}

function position(event) {
  const box = paper.getBoundingClientRect();
  const within = (value) => Math.min(1, Math.max(0, value));
  return [within((event.clientX - box.left) / box.width), within((event.clientY - box.top) / box.height)];
}

paper.addEventListener("pointerdown", (event) => {
  if (!event.isPrimary || event.button !== 0) return;
  paper.setPointerCapture(event.pointerId);
  cursor.shown = cursor.down = false;
  pen = [position(event)];
  strokes.push(pen);
  changed();
});

paper.addEventListener("pointermove", (event) => {
  if (!pen || !event.isPrimary) return;
  pen.push(...(event.getCoalescedEvents?.() ?? [event]).map(position));
  changed();
});

for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
  paper.addEventListener(end, (event) => { if (event.isPrimary) pen = null; });
}

function undo() {
  strokes.pop();
  pen = null;
  cursor.down = false;
  changed();
}

function clear() {
  strokes.length = 0;
  pen = null;
  cursor.down = false;
  changed();
}

$("undo").addEventListener("click", undo);
$("clear").addEventListener("click", () => { clear(); paper.focus(); });

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function move([right, down]) {
  cursor.shown = true;
  cursor.at = [cursor.at[0] + right * STEP, cursor.at[1] + down * STEP].map((value) => Math.min(1, Math.max(0, value)));
  if (cursor.down) strokes.at(-1).push(cursor.at);
  return cursor.down;
}

function lower() {
  cursor.shown = true;
  cursor.down = !cursor.down;
  if (cursor.down) strokes.push([cursor.at]);
  return cursor.down;
}

paper.addEventListener("keydown", (event) => {
  const key = event.key;
  if (event.altKey || ((event.ctrlKey || event.metaKey) && key !== "z")) return;
  let drew = false;
  if (key in ARROWS) drew = move(ARROWS[key]);
  else if (key === " ") drew = lower();
  else if (key === "Backspace" || key === "z") undo();
  else if (key === "Escape" || key === "Delete") clear();
  else return;
  event.preventDefault();
  if (drew) changed();
  else paint();
});

paper.addEventListener("blur", () => { cursor.shown = cursor.down = false; paint(); });

// Prediction ----------------------------------------------------------------------------------------------------------

let busy = false;
let newer = false;
const times = { predict: [], all: [] };

async function update() {
  newer = true;
  if (busy) return;
  busy = true;
  while (newer && strokes.length) {
    newer = false;
    const begin = performance.now();
    try {
      const prediction = await predict(render());
      if (!strokes.length) break;
      show(prediction);
      measure(prediction.milliseconds, performance.now() - begin);
    } catch {
      showError("No response from the server. Start it again: python -m experiments.draw");
      break;
    }
  }
  busy = false;
}

async function predict(body) {
  const headers = { "Content-Type": "application/octet-stream" };
  const response = await fetch("/predict", { method: "POST", headers, body });
  if (!response.ok) throw new Error(response.statusText);
  return response.json();
}

function measure(inside, total) {
  const median = (values, value) => {
    values.push(value);
    if (values.length > 50) values.shift();
    return [...values].sort((a, b) => a - b)[values.length >> 1].toFixed(0);
  };
  const [prediction, all] = [median(times.predict, inside), median(times.all, total)];
  $("latency").textContent = `${prediction} ms per prediction, ${all} ms from pen to screen (medians of the last `
    + `${times.all.length}).`;
}

// Display ---------------------------------------------------------------------------------------------------------

const NOTHING = Array(10).fill(0);
const best = (probabilities) => probabilities.indexOf(Math.max(...probabilities));
const percent = (probability) => `${(100 * probability).toFixed(0)}\u202f%`;
const isSmall = (probability) => probability < 0.005;

function element(parent, name, properties = {}) {
  return parent.appendChild(Object.assign(document.createElement(name), properties));
}

function fill(cells, probabilities) {
  const winner = probabilities === NOTHING ? -1 : best(probabilities);
  cells.forEach((cell, digit) => {
    cell.querySelector(".bar").style.setProperty("--probability", probabilities[digit].toFixed(2));
    cell.classList.toggle("best", digit === winner);
    const isMeter = cell.role === "meter";
    const text = isMeter && isSmall(probabilities[digit]) ? "" : percent(probabilities[digit]);
    cell.querySelector(".percent").textContent = text;
    if (isMeter) cell.ariaValueNow = (100 * probabilities[digit]).toFixed(0);
  });
}

const bars = DIGITS.map((digit) => {
  const cell = element($("ensemble"), "div", { role: "meter", ariaLabel: `${digit}`, ariaValueMin: 0, ariaValueMax: 100 });
  element(cell, "small", { className: "percent" });
  element(cell, "span", { className: "bar" });
  element(cell, "span", { textContent: digit });
  return cell;
});

const tiles = Array.from({ length: 9 }, (_, view) => {
  const figure = element($("views"), "figure");
  const canvas = element(figure, "canvas", { width: 28, height: 28, role: "img" });
  return { canvas, name: view ? `view ${view}` : "not augmented", caption: element(figure, "figcaption") };
});

function row(name, accuracy) {
  const line = element($("members"), "tr", { className: name });
  const head = element(line, "th", { scope: "row", textContent: name === "scratch" ? "NumPy MLP" : name });
  element(head, "small", { textContent: `${(100 * accuracy).toFixed(2)} %` });
  const cells = DIGITS.map(() => {
    const cell = element(line, "td");
    element(cell, "span", { className: "bar" });
    element(cell, "span", { className: "percent unseen" });
    return cell;
  });
  return { cells, predicted: element(line, "td") };
}

function showImage({ canvas, name, caption }, base64, probabilities) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const image = new ImageData(28, 28);
  bytes.forEach((value, i) => image.data.set([255, 255, 255, value], 4 * i));
  canvas.getContext("2d").putImageData(image, 0, 0);
  canvas.ariaLabel = `${name}, prediction ${best(probabilities)}`;
  caption.textContent = best(probabilities);
}

function showPrediction(probabilities) {
  const [first, second] = DIGITS.toSorted((a, b) => probabilities[b] - probabilities[a]);
  const sure = probabilities[first] >= about.threshold;
  $("digit").textContent = first;
  const confidence = $("confidence");
  confidence.replaceChildren(sure ? "confidence " : "not sure: confidence ");
  element(confidence, "strong", { textContent: percent(probabilities[first]) });
  if (!isSmall(probabilities[second])) confidence.append(`, second: ${second} with ${percent(probabilities[second])}`);
  announce(`Prediction ${first}, ${sure ? "" : "not sure: "}confidence ${percent(probabilities[first])}.`);
}

function showNothing() {
  $("digit").textContent = "?";
  $("confidence").textContent = "Draw a digit.";
  announce("The drawing area is empty.");
  for (const { canvas, name, caption } of tiles) {
    canvas.getContext("2d").clearRect(0, 0, 28, 28);
    canvas.ariaLabel = `${name}, empty`;
    caption.textContent = "";
  }
}

function show(prediction) {
  $("trouble").hidden = true;
  fill(bars, prediction ? prediction.ensemble : NOTHING);
  const models = prediction ? [...prediction.members, prediction.scratch] : rows.map(() => NOTHING);
  rows.forEach(({ cells, predicted }, i) => {
    fill(cells, models[i]);
    predicted.textContent = prediction ? best(models[i]) : "";
  });
  if (!prediction) return showNothing();
  showPrediction(prediction.ensemble);
  tiles.forEach((tile, view) => showImage(tile, prediction.images[view], prediction.views[view]));
}

// Screen readers announce the prediction when the pen rests, not after every movement.
let announcement = 0;
function announce(text) {
  clearTimeout(announcement);
  announcement = setTimeout(() => { $("status").textContent = text; }, 500);
}

function showError(text) {
  $("trouble").textContent = text;
  $("trouble").hidden = false;
}

DIGITS.forEach((digit) => element($("digits"), "th", { scope: "col", textContent: digit }));
element(element($("digits"), "th", { scope: "col" }), "span", { className: "unseen", textContent: "prediction" });
const about = await (await fetch("/about")).json();
const rows = Object.entries(about.accuracies).map(([name, accuracy]) => row(name, accuracy));
show(null);
$("status").textContent = "";
new ResizeObserver(paint).observe(paper);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
document.documentElement.dataset.ready = "";
