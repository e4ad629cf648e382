"""The page of :mod:`ga.draw.page` without its scene: style and script."""

TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>@TITLE@</title>
<style>
body { margin: 0; font: 15px/1.4 system-ui, sans-serif; color: #222; background: #fff; overflow: hidden; }
h1 { position: absolute; left: 16px; top: 10px; margin: 0; font-size: 17px; font-weight: 600; }
canvas { display: block; width: 100vw; height: 100vh; cursor: grab; touch-action: none; }
#time { position: absolute; left: 50%; bottom: 16px; transform: translateX(-50%); display: none; gap: 10px; }
#time input { width: min(50vw, 420px); }
button { font: inherit; padding: 2px 12px; border: 1px solid #bbb; border-radius: 4px; background: #fff; }
</style>
</head>
<body>
<h1>@TITLE@</h1>
<canvas id="canvas" aria-label="@TITLE@"></canvas>
<div id="time"><button id="run">run</button><input id="stage" type="range" min="0" step="1" aria-label="stage"></div>
<script>
"use strict";
const scene = @SCENE@;
const canvas = document.getElementById("canvas"), pen = canvas.getContext("2d");
const stage = document.getElementById("stage"), run = document.getElementById("run");
const flat = scene.d === 2, radians = Math.PI / 180;
let elevation, azimuth, zoom, shift, right, up, towards, running = false, waiting = false;

function reset() {
  elevation = flat ? 90 : scene.view[0]; azimuth = flat ? -90 : scene.view[1]; zoom = 1; shift = [0, 0];
  redraw();
}
function look() {
  const e = elevation * radians, a = azimuth * radians;
  const [se, ce, sa, ca] = [Math.sin(e), Math.cos(e), Math.sin(a), Math.cos(a)];
  right = [-sa, ca, 0]; up = [-se * ca, -se * sa, ce]; towards = [ce * ca, ce * sa, se];
}
const dot = (p, v) => p[0] * v[0] + p[1] * v[1] + p[2] * v[2];
const scale = () => 0.42 * Math.min(innerWidth, innerHeight - 60) / (scene.reach * (flat ? 1 : 1.35)) * zoom;
function project(p) {  // to pixels; the third number is nearness
  const q = p.map((x, t) => x - scene.center[t]), s = scale();
  return [innerWidth / 2 + shift[0] + s * dot(q, right), innerHeight / 2 + shift[1] - s * dot(q, up), dot(q, towards)];
}
const nearness = item => item.points.reduce((sum, p) => sum + project(p)[2], 0) / item.points.length;
const order = { face: 0, ball: 1, stroke: 2, arrow: 2, dots: 3 };

function trace(points, close) {
  pen.beginPath();
  points.map(project).forEach(([x, y], t) => t ? pen.lineTo(x, y) : pen.moveTo(x, y));
  if (close) pen.closePath();
}
function write(text, x, y, colour) {
  pen.font = "14px system-ui, sans-serif"; pen.lineWidth = 4; pen.strokeStyle = "rgba(255,255,255,0.9)";
  pen.setLineDash([]); pen.strokeText(text, x, y); pen.fillStyle = colour; pen.fillText(text, x, y);
}
const drawers = {
  face(item) {
    trace(item.points, true); pen.globalAlpha *= 0.15; pen.fillStyle = item.colour; pen.fill();
    pen.globalAlpha *= 4; pen.lineWidth = 1; pen.strokeStyle = item.colour; pen.stroke();
  },
  ball(item) {
    const [x, y] = project(item.points[0]), r = scale() * item.radius;
    const shade = pen.createRadialGradient(x - r / 3, y - r / 3, r / 10, x, y, r);
    shade.addColorStop(0, "#ffffff"); shade.addColorStop(1, item.colour);
    pen.beginPath(); pen.arc(x, y, r, 0, 2 * Math.PI); pen.lineWidth = 1.2; pen.strokeStyle = item.colour;
    pen.stroke(); if (item.real) { pen.globalAlpha *= 0.35; pen.fillStyle = shade; pen.fill(); }
  },
  stroke(item) { trace(item.points); pen.lineWidth = 2; pen.strokeStyle = item.colour; pen.stroke(); },
  arrow(item) {
    drawers.stroke(item);
    const [[x0, y0], [x1, y1]] = item.points.map(project), angle = Math.atan2(y1 - y0, x1 - x0);
    pen.beginPath(); pen.moveTo(x1, y1);
    for (const turn of [2.75, -2.75]) pen.lineTo(x1 + 12 * Math.cos(angle + turn), y1 + 12 * Math.sin(angle + turn));
    pen.fillStyle = item.colour; pen.fill();
  },
  dots(item) {
    if (item.points.length === 2) {
      pen.setLineDash(item.real ? [2, 3] : [6, 4]); trace(item.points); pen.lineWidth = 1;
      pen.strokeStyle = item.colour; pen.stroke(); pen.setLineDash([]);
    }
    for (const [x, y] of item.points.map(project)) {
      pen.beginPath(); pen.arc(x, y, 5, 0, 2 * Math.PI); pen.fillStyle = item.colour; pen.fill();
      pen.lineWidth = 1.2; pen.strokeStyle = "#fff"; pen.stroke();
    }
  },
};
function label(item) {
  const spots = item.points.map(project);
  const outer = { stroke: spots.length > 2 ? 0 : 1, ball: 0, dots: spots.length - 1 };
  let [x, y] = spots[outer[item.kind] ?? spots.length - 1];
  if (item.kind === "stroke" && spots.length > 2) { [x, y] = spots.reduce((a, b) => b[1] > a[1] ? b : a); y += 26; }
  if (item.kind === "stroke" && spots.length === 2) [x, y] = [0, 1].map(t => 0.1 * spots[0][t] + 0.9 * spots[1][t]);
  if (item.kind === "ball") { const r = 0.72 * scale() * item.radius; x += r; y -= r; }
  write(item.label, x + 8, y - 8, item.colour);
}
function cube() {
  const c = scene.center, r = scene.reach, corner = b => c.map((x, t) => x + (b >> t & 1 ? r : -r));
  pen.lineWidth = 1; pen.strokeStyle = "#dddde2"; pen.setLineDash([]);
  for (let b = 0; b < 8; b++) for (let t = 0; t < scene.d; t++)
    if (!(b >> t & 1) && (!flat || b < 4)) { trace([corner(b), corner(b | 1 << t)].map(drop)); pen.stroke(); }
  ["x", "y", "z"].slice(0, scene.d).forEach((name, t) => {
    const [x, y] = project(drop(corner(1 << t))); write(name, x + 4, y + 14, "#999");
  });
}
const drop = p => flat ? [p[0], p[1], 0] : p;
function draw() {
  waiting = false;
  const ratio = devicePixelRatio || 1, now = +stage.value;
  canvas.width = innerWidth * ratio; canvas.height = innerHeight * ratio;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0); pen.lineJoin = pen.lineCap = "round";
  look(); cube();
  for (const path of scene.paths) {
    trace(path.points); pen.setLineDash([1, 4]); pen.lineWidth = 1.2; pen.strokeStyle = path.colour; pen.stroke();
  }
  const seen = scene.items.filter(item => item.stage === null || item.stage <= now);
  seen.sort((a, b) => order[a.kind] - order[b.kind] || nearness(a) - nearness(b));
  for (const item of seen) {
    pen.globalAlpha = item.stage === null || item.stage === now ? 1 : 0.12;
    pen.setLineDash(item.real ? [] : [7, 5]); drawers[item.kind](item);
  }
  pen.globalAlpha = 1;
  for (const item of seen) if (item.label) label(item);
}
function redraw() { if (!waiting) { waiting = true; requestAnimationFrame(draw); } }

const fingers = new Map(); let apart = 0;
canvas.addEventListener("pointerdown", e => { fingers.set(e.pointerId, e); canvas.setPointerCapture(e.pointerId); });
canvas.addEventListener("pointermove", e => {
  const before = fingers.get(e.pointerId);
  if (!before) return;
  fingers.set(e.pointerId, e);
  if (fingers.size === 2) {
    const [a, b] = [...fingers.values()], distance = Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
    if (apart) zoom *= distance / apart;
    apart = distance;
  } else if (flat || e.shiftKey) {
    shift[0] += e.clientX - before.clientX; shift[1] += e.clientY - before.clientY;
  } else {
    azimuth -= 0.4 * (e.clientX - before.clientX);
    elevation = Math.max(-90, Math.min(90, elevation + 0.4 * (e.clientY - before.clientY)));
  }
  redraw();
});
for (const end of ["pointerup", "pointercancel"])
  canvas.addEventListener(end, e => { fingers.delete(e.pointerId); apart = 0; });
canvas.addEventListener("wheel", e => {
  e.preventDefault(); zoom *= Math.exp(-0.001 * e.deltaY); redraw();
}, { passive: false });
canvas.addEventListener("dblclick", reset);
addEventListener("resize", redraw);
stage.addEventListener("input", redraw);
run.addEventListener("click", () => { running = !running; run.textContent = running ? "stop" : "run"; tick(); });
function tick() {
  if (!running) return;
  stage.value = (+stage.value + 1) % scene.stages; redraw(); setTimeout(tick, 1500 / scene.stages);
}
if (scene.stages) {
  document.getElementById("time").style.display = "flex"; stage.max = stage.value = scene.stages - 1;
}
reset();
</script>
</body>
</html>
"""
