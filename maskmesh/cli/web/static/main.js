// The page: one source at a time, its objects, its frames.
import { Camera } from "./camera.js";
import { Latency } from "./latency.js";
import { area } from "./rle.js";
import { colourOf, Viewer } from "./viewer.js";

const get = (id) => document.getElementById(id);
const viewer = new Viewer(get("canvas"));
const latency = new Latency();
const FAR = 20;

const state = {
  source: null, frame: 0, results: new Map(), clicks: new Map(), objects: [], current: 1, tool: "point",
  stopping: null, camera: null, playing: null, numConcepts: 0, pictures: new Map(),
};

// Text for everybody, and for a screen reader.
function say(text, isError = false) {
  get("status").textContent = text;
  get("status").classList.toggle("error", isError);
}

async function call(path, body, method = "POST") {
  const response = await fetch(path, body === undefined ? { method }
    : { method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  const content = await response.json();
  if (!response.ok) throw new Error(content.message);
  return content;
}

function run(work) {
  return async (...given) => {
    try { await work(...given); } catch (error) { say(error.message || String(error), true); }
  };
}

// Sources.

async function openFile(file) {
  say(`Sending ${file.name}.`);
  await opened(await (async () => {
    const response = await fetch(`/api/sources?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file });
    const content = await response.json();
    if (!response.ok) throw new Error(content.message);
    return content;
  })());
}

async function opened(source) {
  await closeSource();
  Object.assign(state, { source, frame: 0, objects: [], current: 1, numConcepts: 0 });
  for (const map of [state.results, state.clicks, state.pictures]) map.clear();
  latency.reset();
  viewer.hidden.clear();
  get("click-time").textContent = get("rate").textContent = "";
  viewer.resize(source.width, source.height);
  get("timeline").max = source.num_frames - 1;
  get("playback").hidden = source.num_frames < 2;
  showModel(source.model);
  get("coverage").width = Math.min(source.num_frames, 2000);
  await show(0);
  listObjects();
  enable();
  say(`${source.name}: ${source.num_frames} ${source.num_frames === 1 ? "frame" : "frames"} of ${source.width} by ` +
    `${source.height} pixels. Click an object.`);
}

async function closeSource() {
  stop();
  pause();
  closeCamera();
  const { source } = state;
  state.source = null;
  if (source) await call(`/api/sources/${source.id}`, undefined, "DELETE");
}

function showModel(model) {
  get("model").textContent = `${model.name} on ${model.device}` + (model.trained ? "" : " (untrained)");
  get("concept-form").hidden = !model.concepts;
}

// Frames.

async function pictureOf(frame) {
  if (!state.pictures.has(frame)) {
    const { id } = state.source;
    state.pictures.set(frame, (async () => {
      const response = await fetch(`/api/sources/${id}/frames/${frame}`);
      if (!response.ok) throw new Error((await response.json()).message);
      return createImageBitmap(await response.blob());
    })());
    // Pictures are large; a few around the shown one suffice.
    if (state.pictures.size > 64) state.pictures.delete(state.pictures.keys().next().value);
  }
  return state.pictures.get(frame);
}

async function show(frame, quiet = false) {
  if (!state.source) return;
  state.frame = Math.max(0, Math.min(frame, state.source.num_frames - 1));
  get("timeline").value = state.frame;
  get("frame-number").textContent = `${state.frame} of ${state.source.num_frames - 1}`;
  const wanted = state.frame, picture = await pictureOf(wanted);
  if (state.frame !== wanted || !state.source) return;
  viewer.picture = picture;
  refresh();
  const result = state.results.get(wanted);
  if (!quiet) latency.show(result ? result.trace_id : "", result ? result.stage_ms : {});
}

function refresh() {
  const result = state.results.get(state.frame);
  viewer.objects = result ? result.objects : [];
  viewer.points = [...state.clicks.entries()].filter(([key]) => key.startsWith(`${state.frame}/`))
    .flatMap(([key, clicks]) => clicks.points.map(([x, y, positive]) => ({ x, y, positive, objId: Number(key.split("/")[1]) })));
  viewer.draw();
  const visible = viewer.objects.filter((object) => object.visible).map((object) => object.obj_id);
  viewer.canvas.setAttribute("aria-label", `Frame ${state.frame}. ` + (visible.length
    ? `Objects in sight: ${visible.join(", ")}.` : "No object is marked here."));
  drawCoverage();
}

// The frames that have masks, in one line under the time line.
function drawCoverage() {
  const canvas = get("coverage"), context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (!state.source) return;
  const unit = canvas.width / state.source.num_frames;
  for (const [frame, result] of state.results) {
    context.fillStyle = result.conditioning || hasClicks(frame) ? "#f28e2b" : "#59a14f";
    context.fillRect(frame * unit, 0, Math.max(unit, 1), canvas.height);
  }
}

const hasClicks = (frame) => [...state.clicks.keys()].some((key) => key.startsWith(`${frame}/`));

function merge(found) {
  const known = state.results.get(found.frame_index);
  const ids = new Set(found.objects.map((object) => object.obj_id));
  const kept = known ? known.objects.filter((object) => !ids.has(object.obj_id)) : [];
  const objects = [...kept, ...found.objects].sort((a, b) => a.obj_id - b.obj_id);
  state.results.set(found.frame_index, { ...found, objects });
  for (const id of ids) if (!state.objects.includes(id)) state.objects.push(id);
}

// Prompts.

async function prompt(content) {
  if (state.camera) return state.camera.command({ type: "prompt", obj_id: state.current, ...content });
  if (!state.source) return;
  const started = performance.now(), frame = state.frame, key = `${frame}/${state.current}`;
  const found = await call(`/api/sources/${state.source.id}/prompt`,
    { frame_index: frame, obj_id: state.current, ...content });
  const clicks = (content.clear_previous ? null : state.clicks.get(key)) || { points: [] };
  if (content.points) clicks.points.push(...content.points);
  state.clicks.set(key, clicks);
  merge(found);
  latency.add(found.stage_ms);
  refresh();
  const ms = performance.now() - started;
  get("click-time").textContent = `Click to mask: ${ms.toFixed(0)} ms`;
  get("click-time").dataset.ms = ms.toFixed(1);
  listObjects();
  latency.drawShares();
  latency.show(found.trace_id, found.stage_ms);
  const mask = found.objects.find((object) => object.obj_id === state.current);
  say(`Object ${state.current}: ${mask ? area(mask.counts) : 0} pixels, in ${ms.toFixed(0)} ms.`);
}

async function clearFrame() {
  const key = `${state.frame}/${state.current}`;
  if (!state.source || !state.clicks.has(key)) return say("There are no clicks of this object on this frame.");
  const id = state.current;
  const { frame, obj_ids } = await call(`/api/sources/${state.source.id}/clear`,
    { frame_index: state.frame, obj_id: id });
  state.clicks.delete(key);
  if (frame) state.results.set(state.frame, frame);
  if (!obj_ids.includes(id)) forgetObject(id);
  listObjects();
  refresh();
  say(`The clicks of object ${id} on this frame are removed.`);
}

async function removeObject(id) {
  if (state.camera) state.camera.command({ type: "remove", obj_id: id });
  else {
    await call(`/api/sources/${state.source.id}/remove`, { obj_id: id });
  }
  forgetObject(id);
  if (state.current === id) state.current = state.objects[0] || 1;
  listObjects();
  refresh();
  say(`Object ${id} is removed.`);
}

function forgetObject(id) {
  for (const result of state.results.values()) result.objects = result.objects.filter((object) => object.obj_id !== id);
  for (const key of [...state.clicks.keys()]) if (key.endsWith(`/${id}`)) state.clicks.delete(key);
  state.objects = state.objects.filter((other) => other !== id);
}

async function findConcept(phrase) {
  const number = ++state.numConcepts;
  if (state.camera) return state.camera.command({ type: "concept", concept_id: number, phrase });
  const { frame } = await call(`/api/sources/${state.source.id}/concept`,
    { concept_id: number, phrase, frame_index: state.frame });
  if (frame) merge(frame);
  listObjects();
  refresh();
  say(`${phrase}: ${frame ? frame.objects.length : 0} found.`);
}

function newObject() {
  state.current = Math.max(0, ...state.objects.filter((id) => id < 1000000)) + 1;
  listObjects();
  say(`Object ${state.current} is new: mark it.`);
}

function listObjects() {
  const ids = state.objects.includes(state.current) ? state.objects : [...state.objects, state.current];
  get("objects").replaceChildren(...ids.map((id) => {
    const item = document.createElement("li"), swatch = document.createElement("i");
    item.classList.toggle("current", id === state.current);
    swatch.style.background = `rgb(${colourOf(id)})`;
    const select = button(`object ${id}`, () => { state.current = id; listObjects(); });
    select.setAttribute("aria-pressed", id === state.current);
    const shown = button(viewer.hidden.has(id) ? "show" : "hide", () => {
      if (!viewer.hidden.delete(id)) viewer.hidden.add(id);
      listObjects();
      refresh();
    });
    item.append(swatch, select, shown);
    if (state.objects.includes(id)) item.append(button("remove", run(() => removeObject(id))));
    return item;
  }));
  enable();
}

function button(text, action) {
  const made = document.createElement("button");
  Object.assign(made, { type: "button", textContent: text, onclick: action });
  return made;
}

// Propagation.

async function propagate(reverse) {
  if (!state.source || state.stopping) return;
  pause();
  const stopping = state.stopping = new AbortController(), { num_frames: total } = state.source;
  const expected = reverse ? state.frame + 1 : total - state.frame, started = performance.now();
  let count = 0;
  enable();
  say(reverse ? "Propagating back." : "Propagating forward.");
  try {
    const response = await fetch(`/api/sources/${state.source.id}/propagate`, {
      method: "POST", signal: stopping.signal, headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ frame_index: state.frame, reverse }),
    });
    if (!response.ok) throw new Error((await response.json()).message);
    for await (const result of linesOf(response.body)) {
      if (result.error) throw new Error(result.error);
      state.results.set(result.frame_index, result);
      for (const object of result.objects) if (!state.objects.includes(object.obj_id)) state.objects.push(object.obj_id);
      latency.add(result.stage_ms);
      count++;
      get("progress").value = count / expected;
      get("rate").textContent = `${(count * 1000 / (performance.now() - started)).toFixed(1)} frames/s`;
      await show(result.frame_index, true);
      if (count % 10 === 0) latency.drawShares();
    }
    say(`${count} frames are done.`);
  } catch (error) {
    if (error.name !== "AbortError") throw error;
    say(`Stopped after ${count} frames.`);
  } finally {
    state.stopping = null;
    latency.drawShares();
    listObjects();
    if (state.source) show(state.frame);
  }
}

async function* linesOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line) yield JSON.parse(line);
  }
}

function stop() { if (state.stopping) state.stopping.abort(); }

// Playback.

function play() {
  if (!state.source || state.source.num_frames < 2) return;
  get("play").setAttribute("aria-pressed", "true");
  const interval = 1000 / (state.source.frames_per_second || 25);
  let isShowing = false;
  state.playing = setInterval(async () => {
    if (isShowing) return;
    isShowing = true;
    try { await show((state.frame + 1) % state.source.num_frames, true); } finally { isShowing = false; }
  }, interval);
}

function pause() {
  clearInterval(state.playing);
  state.playing = null;
  get("play").setAttribute("aria-pressed", "false");
}

// The camera.

async function openCamera() {
  await closeSource();
  Object.assign(state, { objects: [], current: 1, numConcepts: 0 });
  for (const map of [state.results, state.clicks, state.pictures]) map.clear();
  viewer.hidden.clear();
  get("playback").hidden = true;
  get("click-time").textContent = get("rate").textContent = "";
  drawCoverage();
  latency.reset();
  const camera = new Camera((picture, result) => {
    if (picture) viewer.picture = picture;
    viewer.objects = result.objects;
    viewer.points = [];
    viewer.draw();
    latency.add(result.stage_ms);
    for (const object of result.objects) if (!state.objects.includes(object.obj_id)) { state.objects.push(object.obj_id); listObjects(); }
    if (result.window) {
      get("rate").textContent = `${result.window.status || ""} ${result.window.total_ms.toFixed(0)} of ` +
        `${(result.window.budget_ms || 0).toFixed(0)} ms, ${result.window.latency_ms.toFixed(0)} ms behind`;
    }
    if (result.sequence % 15 === 0) { latency.drawShares(); latency.show(result.trace_id, result.stage_ms); }
  }, (message) => {
    if (message.type === "started") showModel(message.model);
    if (message.type === "rejected") say(message.message, true);
    if ((message.type === "error" || message.type === "closed") && state.camera === camera) {
      closeCamera();
      say(message.message || "The live connection has ended.", true);
    }
  });
  state.camera = camera;
  try {
    const size = await camera.open();
    if (!size) return;
    viewer.resize(size.width, size.height);
    get("camera").setAttribute("aria-pressed", "true");
    listObjects();
    say("The camera is on. Click an object.");
  } catch (error) {
    closeCamera();
    throw error;
  }
}

function closeCamera() {
  if (!state.camera) return;
  state.camera.close();
  state.camera = null;
  get("camera").setAttribute("aria-pressed", "false");
  say("The camera is off.");
}

// Input.

function tool(name) {
  state.tool = name;
  for (const other of ["point", "negative", "box"]) get(`tool-${other}`).setAttribute("aria-pressed", other === name);
}

function enable() {
  const hasMasks = state.source && state.objects.length > 0, isBusy = Boolean(state.stopping);
  for (const id of ["forward", "backward"]) get(id).disabled = !hasMasks || isBusy;
  get("stop").disabled = !isBusy;
  const link = get("export");
  link.setAttribute("aria-disabled", !hasMasks);
  link.href = hasMasks ? `/api/sources/${state.source.id}/export/${get("format").value}` : "#";
}

function listen() {
  const { canvas } = viewer;
  let start = null;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.focus();
    start = viewer.place(event);
    viewer.cross = { x: Math.round(start.x), y: Math.round(start.y) };
    if (state.tool === "box") canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!start || state.tool !== "box") return;
    const end = viewer.place(event);
    viewer.box = { x0: start.x, y0: start.y, x1: end.x, y1: end.y };
    viewer.draw();
  });
  canvas.addEventListener("pointerup", run(async (event) => {
    if (!start) return;
    const begin = start, end = viewer.place(event);
    start = null;
    viewer.box = null;
    if (state.tool === "box") {
      const box = [Math.min(begin.x, end.x), Math.min(begin.y, end.y), Math.max(begin.x, end.x), Math.max(begin.y, end.y)];
      if (box[2] - box[0] < 2 || box[3] - box[1] < 2) return viewer.draw();
      await prompt({ box, clear_previous: true });
    } else {
      await prompt({ points: [[end.x, end.y, state.tool === "point" && !event.shiftKey]] });
    }
  }));
  canvas.addEventListener("focus", () => viewer.draw());
  canvas.addEventListener("blur", () => viewer.draw());
  let corner = null;
  canvas.addEventListener("keydown", run(async (event) => {
    if (!viewer.cross) return;
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key in steps) {
      const [dx, dy] = steps[event.key], far = event.shiftKey ? FAR : 2, { cross } = viewer;
      cross.x = Math.max(0, Math.min(canvas.width - 1, cross.x + dx * far));
      cross.y = Math.max(0, Math.min(canvas.height - 1, cross.y + dy * far));
      viewer.draw();
      say(`Cross at ${cross.x}, ${cross.y}.`);
      event.preventDefault();
    } else if (event.key === "Enter" && state.tool === "box") {
      const { x, y } = viewer.cross;
      if (!corner) {
        corner = { x, y };
        say(`One corner of the box is at ${x}, ${y}. Move the cross to the opposite corner and press Enter.`);
        return;
      }
      const box = [Math.min(corner.x, x), Math.min(corner.y, y), Math.max(corner.x, x), Math.max(corner.y, y)];
      corner = null;
      if (box[2] - box[0] >= 2 && box[3] - box[1] >= 2) await prompt({ box, clear_previous: true });
    } else if (event.key === "Enter") {
      await prompt({ points: [[viewer.cross.x, viewer.cross.y, !event.shiftKey && state.tool !== "negative"]] });
    }
  }));
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    const keys = { p: () => tool("point"), x: () => tool("negative"), b: () => tool("box"), n: newObject,
      c: run(clearFrame), ",": run(() => show(state.frame - 1)), ".": run(() => show(state.frame + 1)), Escape: stop };
    if (event.key in keys) keys[event.key]();
  });
  for (const name of ["point", "negative", "box"]) get(`tool-${name}`).onclick = () => tool(name);
  get("new-object").onclick = newObject;
  get("clear-frame").onclick = run(clearFrame);
  get("file").onchange = run(async (event) => { if (event.target.files[0]) await openFile(event.target.files[0]); });
  get("open-sample").onclick = run(async () => opened(await call("/api/sample")));
  get("camera").onclick = run(async () => (state.camera ? closeCamera() : openCamera()));
  get("timeline").oninput = run(async (event) => show(Number(event.target.value)));
  get("previous").onclick = run(async () => show(state.frame - 1));
  get("next").onclick = run(async () => show(state.frame + 1));
  get("play").onclick = () => (state.playing ? pause() : play());
  get("forward").onclick = run(async () => propagate(false));
  get("backward").onclick = run(async () => propagate(true));
  get("stop").onclick = stop;
  get("format").onchange = enable;
  get("concept-form").onsubmit = (event) => {
    event.preventDefault();
    run(findConcept)(get("phrase").value);
  };
  window.addEventListener("pagehide", () => {
    if (state.source) fetch(`/api/sources/${state.source.id}`, { method: "DELETE", keepalive: true });
  });
}

listen();
enable();
// Browsers give the camera to pages of this machine and of HTTPS only.
get("camera").hidden = !navigator.mediaDevices;
get("playback").hidden = true;
latency.readMesh().then((mesh) => {
  get("open-sample").hidden = !mesh.has_sample;
  get("model").textContent = "connected";
}).catch((error) => say(error.message, true));
latency.watch();
