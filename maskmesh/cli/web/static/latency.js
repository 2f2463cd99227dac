// Where the time goes: the waterfall of a frame, shares of the session, the replicas.
const SVG = "http://www.w3.org/2000/svg";
const COLOURS = { decode_image: "#4e79a7", motion_gate: "#d37295", preprocess: "#76b7b2", image_encoder: "#f28e2b",
  fetch_embedding: "#9c755f", memory_attention: "#e15759", prompt_encoder: "#edc948", mask_decoder: "#59a14f",
  memory_encoder: "#b07aa1", postprocess: "#ff9da7", archive: "#86bcb6", queue: "#d0d0d0", transfer: "#a0a0a0",
  prepare: "#bab0ac", commit: "#bab0ac", respond: "#bab0ac", cache_lookup: "#bab0ac", send_embedding: "#bab0ac" };
const colour = (name) => COLOURS[name.split(" ")[0]] || "#c8c8d0";

function element(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

export class Latency {
  constructor() {
    this.totals = new Map();
    this.frames = 0;
    this.traceUrl = "";
    this.busy = new Map();
    this.wanted = "";
  }

  reset() {
    this.totals.clear();
    this.frames = 0;
    this.drawShares();
  }

  add(stageMs) {
    this.frames++;
    for (const [stage, ms] of Object.entries(stageMs)) this.totals.set(stage, (this.totals.get(stage) || 0) + ms);
  }

  drawShares() {
    const all = [...this.totals.entries()].sort((a, b) => b[1] - a[1]);
    const sum = all.reduce((total, [, ms]) => total + ms, 0) || 1;
    const svg = element("svg", { viewBox: "0 0 300 22" });
    let x = 0;
    for (const [stage, ms] of all) {
      const part = element("rect", { x, y: 0, width: 300 * ms / sum, height: 22, fill: colour(stage) });
      part.append(element("title", {}, `${stage}: ${(100 * ms / sum).toFixed(1)} %`));
      svg.append(part);
      x += 300 * ms / sum;
    }
    document.getElementById("shares").replaceChildren(svg);
    const body = document.querySelector("#share-table tbody");
    body.replaceChildren(...all.map(([stage, ms]) => row([stage, `${(ms / this.frames).toFixed(1)} ms`,
      `${(100 * ms / sum).toFixed(0)} %`])));
  }

  // The spans of a trace, or the durations of its stages until the trace is there.
  async show(traceId, stageMs) {
    this.wanted = traceId;
    document.getElementById("trace-id").textContent = traceId;
    const link = document.getElementById("trace-link");
    link.hidden = !this.traceUrl || !traceId;
    if (!link.hidden) link.href = this.traceUrl.replace("{trace_id}", traceId);
    this.drawStages(stageMs || {});
    for (let attempt = 0; attempt < 8 && traceId; attempt++) {
      const { spans, local } = await (await fetch(`/api/traces/${traceId}`)).json();
      if (this.wanted !== traceId || !local) return;
      if (spans.length) this.drawSpans(spans);
      // Each service exports its spans in its own time; the tracker's are the last ones.
      if (spans.some((span) => span.service === "tracker")) return;
      await new Promise((resolve) => setTimeout(resolve, 400));
      if (this.wanted !== traceId) return;
    }
  }

  drawStages(stageMs) {
    let start = 0;
    const spans = Object.entries(stageMs).map(([name, ms]) => {
      const span = { name, service: "", depth: 0, start_ms: start, ms };
      start += ms;
      return span;
    });
    this.drawSpans(spans);
  }

  drawSpans(spans) {
    const shown = spans.filter((span) => span.ms >= 0.02 || span.depth === 0), row = 14, left = 150;
    const end = Math.max(...shown.map((span) => span.start_ms + span.ms), 0.001);
    const svg = element("svg", { viewBox: `0 0 420 ${shown.length * row + 16}` });
    shown.forEach((span, i) => {
      const x = left + 215 * span.start_ms / end, width = Math.max(1.2, 215 * span.ms / end);
      svg.append(element("text", { x: 2 + span.depth * 6, y: i * row + 10 }, span.name));
      const bar = element("rect", { x, y: i * row + 2, width, height: row - 4, fill: colour(span.name), rx: 1.5 });
      bar.append(element("title", {}, `${span.service} ${span.name}: ${span.ms.toFixed(2)} ms`));
      svg.append(bar, element("text", { x: Math.min(x + width + 3, 380), y: i * row + 10 }, span.ms.toFixed(1)));
    });
    if (shown.length) svg.append(element("text", { x: left, y: shown.length * row + 12 }, `0 to ${end.toFixed(1)} ms`));
    document.getElementById("waterfall").replaceChildren(svg);
  }

  async watch() {
    for (;;) {
      if (!document.hidden) await this.readMesh().catch(() => {});
      await new Promise((resolve) => setTimeout(resolve, 2000));
    }
  }

  async readMesh() {
    const response = await fetch("/api/mesh");
    if (!response.ok) throw new Error((await response.json()).message);
    const mesh = await response.json(), now = performance.now();
    this.traceUrl = mesh.trace_url;
    document.querySelector("#replicas tbody").replaceChildren(...mesh.services.map((service) => {
      const queue = Object.entries(service.queues).map(([name, depth]) => `${name} ${depth}`).join(", ");
      const cache = service.cache ? `${service.cache.hits} hits, ${service.cache.misses} misses, ` +
        `${(service.cache.used_bytes / 2 ** 20).toFixed(0)} of ${(service.cache.budget_bytes / 2 ** 20).toFixed(0)} MiB` : "";
      const memory = service.resident_bytes ? `${(service.resident_bytes / 2 ** 20).toFixed(0)} MiB` : service.error;
      const before = this.busy.get(service.name);
      if (service.cpu_seconds === undefined) this.busy.delete(service.name);
      else this.busy.set(service.name, [now, service.cpu_seconds]);
      const cores = before && service.cpu_seconds !== undefined ? Math.max(0, (service.cpu_seconds - before[1]) * 1000 / (now - before[0])).toFixed(2) : "";
      return row([service.name, queue, cache, memory, cores]);
    }));
    return mesh;
  }
}

function row(cells) {
  const made = document.createElement("tr");
  for (const text of cells) {
    const cell = document.createElement("td");
    cell.textContent = text;
    made.append(cell);
  }
  return made;
}
