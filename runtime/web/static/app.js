// The page of a device (docs/web.md). It asks the server every few seconds, as the device
// restarts in the middle of what it shows.

const $ = (id) => document.getElementById(id);

// el makes an element. Text of the device is always text, never markup.
function el(tag, props = {}, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === "on") for (const [type, fn] of Object.entries(value)) e.addEventListener(type, fn);
    else if (name in e && name !== "list") e[name] = value;
    else e.setAttribute(name, value);
  }
  e.append(...children.filter((c) => c !== null && c !== undefined));
  return e;
}

// show replaces what a box has if its data changed, and keeps the focus on the element with
// the same id.
const shown = new Map();
function show(box, data, make) {
  const text = JSON.stringify(data);
  if (shown.get(box) === text) return;
  shown.set(box, text);
  const focus = box.contains(document.activeElement) ? document.activeElement.id : "";
  box.replaceChildren(...[make(data)].flat());
  if (focus) ($(focus) ?? box.closest("section")?.querySelector("h2"))?.focus?.();
}

const say = (text) => { $("say").textContent = text; };
const bytes = (n) => {
  for (const [unit, size] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) if (n >= size) return `${(n / size).toFixed(1)} ${unit}`;
  return `${n} B`;
};

// Failure is an answer that is an error.
class Failure extends Error {
  constructor(status, text, after) { super(text); this.status = status; this.after = after; }
}

async function call(method, path, body) {
  let r;
  try {
    r = await fetch(path, { method, body });
  } catch {
    throw new Failure(0, "The device does not answer.");
  }
  const text = await r.text();
  let doc = null;
  try { doc = JSON.parse(text); } catch { /* not JSON: an error page on the way */ }
  if (r.status === 401) askToken();
  if (!r.ok) throw new Failure(r.status, doc?.error ?? `The device answers ${r.status}.`, Number(r.headers.get("Retry-After")) || 0);
  return doc;
}

const json = (method, path, value) => call(method, path, JSON.stringify(value));
const query = (values) => new URLSearchParams(values).toString();

// attempt runs what a button asks for; its error stands in the box.
async function attempt(box, fn, button) {
  box.textContent = "";
  if (button) button.disabled = true;
  try {
    await fn();
  } catch (err) {
    box.textContent = err.message;
  } finally {
    if (button) button.disabled = false;
  }
  refresh();
}

function table(label, heads, rows) {
  const head = heads.map((h) => el("th", { scope: "col", className: h.number ? "number" : "" }, h.text ?? h));
  const body = rows.map((cells) => el("tr", {}, ...cells.map((c, i) => {
    const h = heads[i], attrs = { className: h.number ? "number" : "" };
    if (i === 0) return el("th", { scope: "row", className: "name" }, c ?? "");
    if (typeof c === "string" || typeof c === "number") attrs["data-label"] = h.text ?? h;
    return el("td", attrs, c ?? "");
  })));
  return el("table", { className: "stack", "aria-label": label },
    el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...body));
}

// Token.

function askToken() {
  if (!$("login").hidden) return;
  $("login").hidden = false;
  $("all").hidden = true;
  $("token").focus();
}

$("login-form").addEventListener("submit", (e) => {
  e.preventDefault();
  attempt($("login-error"), async () => {
    await call("POST", "/app/api/login", $("token").value);
    $("token").value = "";
    $("login").hidden = true;
    start();
  });
});

// Status.

const going = ["QUEUED", "DOWNLOADING", "INPROGRESS", "TESTING"];
const percent = { QUEUED: 5, DOWNLOADING: 25, INPROGRESS: 50, TESTING: 75 };
const kinds = { DONE: "good", UPDATED: "good", STARTED: "good", READY: "good", MOUNTED: "good", ERROR: "bad", WONTGO: "bad", STOPPED: "bad", CANCELED: "" };
const kind = (status) => kinds[status] ?? (status ? "wait" : "");
const pill = (status) => el("span", { className: "pill", "data-kind": kind(status) }, status || "–");

let overview = null;
let ended = ""; // the last end of an update that was told

// latest returns the last update if it goes on, or ended otherwise than well.
function latest() {
  const list = overview?.updates;
  return Array.isArray(list) && list.length ? list[list.length - 1] : null;
}

function showStatus(o) {
  document.title = `${o.revision} – Pantavisor device`;
  $("revision").textContent = o.revision;
  const u = latest(), p = o.progress ?? {};
  const busy = u && going.includes(u.status) && !u.when;
  const status = busy ? u.status : p.status ?? "";
  $("state").textContent = status || "unknown";
  $("state").dataset.kind = kind(status);
  $("message").textContent = busy ? u.message : p["status-msg"] ?? "";
  $("progress").hidden = !busy && !going.includes(p.status);
  $("progress").value = busy ? percent[u.status] : p.progress ?? 0;
  const open = u && (going.includes(u.status) || u.failure) ? u : null;
  $("update").hidden = !open;
  show($("update"), open, (update) => update ? describe(update, true) : []);
  show($("history"), Array.isArray(o.updates) ? o.updates : null, history);
  $("history-box").hidden = !Array.isArray(o.updates);
  tellEnd(u);
}

function tellEnd(u) {
  if (!u) return;
  const text = `Update of ${u.revision}: ${u.status}. ${u.message ?? ""}`;
  if (ended !== text && ended !== "") say(text);
  ended = text;
}

// describe shows an update: its path, what remains of its time, and why it failed.
function describe(u, last = false) {
  const out = [el("h3", {}, u.failure ? `Revision ${u.revision} failed` : u.when ? `Revision ${u.revision} waits` : `Revision ${u.revision}`)];
  if (u.failure) out.push(reason(u.failure));
  if (u.when) out.push(el("p", {}, u.when === "reboot" ? "It runs after the next restart. " : `It runs at ${u.when}. `, last ? cancelButton(u.revision) : null));
  if (u.groups?.length) out.push(table("Groups and their time", ["Group", "Status", "Goal", "Time left"], u.groups.map((g) => [g.name, pill(g.status), g.status_goal, timeLeft(g)])));
  if (u.path?.length) out.push(el("ol", { className: "path" }, ...u.path.map((s) => el("li", {}, el("time", { dateTime: s.time }, clock(s.time)), pill(s.status), ` ${s.message ?? ""}`))));
  return out;
}

// timeLeft says what remains of the time in which a group or a container is to reach its goal.
function timeLeft(g) {
  if (g.timeout_remaining === undefined || g.timeout_remaining === null) return "";
  return `${g.timeout_remaining} s${g.timeout ? ` of ${g.timeout} s` : ""}`;
}

const clock = (time) => (time ?? "").replace("T", " ").replace(/\.\d+/, "").replace("Z", "");

function reason(f) {
  const facts = [["Container", f.container], ["Group", f.group], ["Goal", f.goal], ["Status", f.status], ["Time-out", f.timeout && `${f.timeout} s`], ["End", f.exit], ["Started again", f.retries && `${f.retries} times`]];
  return el("div", { className: "note bad" },
    el("p", {}, `${f.text || f.check}`),
    el("ul", {}, ...facts.filter(([, v]) => v).map(([k, v]) => el("li", {}, `${k}: ${v}`))),
    f.log?.length ? el("details", { open: true }, el("summary", {}, "Its last lines"), el("pre", { tabIndex: 0, "aria-label": "Last lines of the log" }, f.log.join("\n"))) : null);
}

function cancelButton(rev) {
  return el("button", { id: "cancel-update", on: { click: (e) => attempt($("revisions-error"), () => call("DELETE", `/app/api/updates/${rev}`), e.target) } }, "Cancel it");
}

function history(list) {
  if (!list?.length) return el("p", { className: "quiet" }, "There was no update yet.");
  return [...list].reverse().map((u) => el("details", {}, el("summary", {}, `${u.number} `, el("span", { className: "name" }, u.revision), " ", pill(u.status)), ...describe(u)));
}

async function showRevisions() {
  const list = await call("GET", "/app/api/steps");
  show($("revisions"), [list, overview?.revision], ([steps, running]) => table("Revisions on this device", ["Revision", "Message", "State", "Date", "Action"],
    steps.map((s) => [s.name, s.commitmsg, pill(s.progress?.status), clock(s.date),
      s.name === running ? "runs now" : el("button", { id: `run-${s.name}`, "aria-label": `Run ${s.name}`, on: { click: () => run(s.name, "") } }, "Run")])));
  const options = [el("option", { value: "current" }, "running"), ...list.map((s) => el("option", { value: s.name }, s.name))];
  show($("log-rev"), list.map((s) => s.name), () => options);
}

// Transaction.

function showTransaction(o) {
  const active = o.transaction === "active";
  $("none").hidden = active;
  if (active && $("active").hidden) loadTransaction();
  $("active").hidden = !active;
}

async function loadTransaction() {
  await attemptQuietly($("change-error"), async () => {
    const [state, report] = await Promise.all([call("GET", "/cgi-bin/pvtx/show"), call("GET", "/cgi-bin/pvtx/check")]);
    show($("difference"), report, difference);
    show($("parts"), partsOf(state), partList);
  });
}

async function attemptQuietly(box, fn) {
  try { await fn(); } catch (err) { box.textContent = err.message; }
}

// partsOf returns the names of what pvtx remove takes.
function partsOf(state) {
  const parts = new Set();
  for (const key of Object.keys(state)) {
    if (key === "#spec") continue;
    const words = key.split("/");
    if (words[0] === "_sigs") continue;
    parts.add(words[0] === "_config" && words.length > 1 ? words.slice(0, 2).join("/") : words[0]);
  }
  return [...parts].sort();
}

function partList(parts) {
  if (!parts.length) return el("li", { className: "quiet" }, "The transaction is empty.");
  return parts.map((p) => el("li", {}, el("span", { className: "name" }, p),
    el("button", { id: `remove-${p}`, "aria-label": `Remove ${p}`, on: { click: (e) => removePart(p, e.target) } }, "Remove")));
}

function removePart(part, button) {
  attempt($("change-error"), async () => {
    await call("PUT", `/cgi-bin/pvtx/remove?${query({ part })}`);
    say(`${part} is removed from the transaction.`);
    await loadTransaction();
  }, button);
}

function difference(d) {
  const out = [];
  if (!d.parts.length) out.push(el("p", { className: "quiet" }, "Nothing differs from what runs."));
  else {
    out.push(table("Difference to what runs", ["Part", "Change", { text: "Files", number: true }, { text: "New", number: true }],
      d.parts.map((p) => [p.part, el("span", { className: "pill", "data-kind": { added: "good", removed: "bad", changed: "wait" }[p.change] }, p.change), p.files, bytes(p.bytes)])));
    out.push(el("p", {}, `New on this device: ${bytes(d.bytes)}.`));
    if (d.device) out.push(...deviceAnswer(d.device));
  }
  const told = (d.device?.blockers ?? []).filter((b) => b.check !== "object"); // objects are in the other list
  const blockers = [...(d.blockers ?? []).filter((text) => !told.some((b) => b.text === text)).map((text) => el("li", {}, text)),
    ...told.map((b) => el("li", {}, el("strong", {}, `${checks[b.check] ?? b.check}: `), b.text))];
  if (blockers.length) out.push(el("div", { className: "note bad" }, el("p", {}, "This update cannot be done:"), el("ul", {}, ...blockers)));
  return out;
}

const checks = { state: "State", signature: "Signature", driver: "Driver", compatibility: "Parts that do not go together", space: "Space", "boot loader": "Boot loader" };

// deviceAnswer shows what the device says of an update: how it gets there, what becomes of
// containers, and the space that it takes.
function deviceAnswer(c) {
  const keys = c.restart_keys ?? [], shown = keys.slice(0, 5).join(", ");
  const because = keys.length ? ` because of ${shown}${keys.length > 5 ? ` and ${keys.length - 5} more` : ""}` : "";
  const out = [el("p", {}, c.restart ? `The device restarts${because}; all containers stop with it.` : "The device does not restart. Containers that are not named here go on.")];
  const change = Object.fromEntries((c.parts ?? []).map((p) => [p.part, p.change]));
  const fate = { added: "is started", changed: "is stopped and replaced", removed: "is stopped and removed" };
  if (c.containers?.length) out.push(el("ul", { "aria-label": "Containers that change" }, ...c.containers.map((name) => el("li", {}, el("span", { className: "name" }, name), ` ${fate[change[name]] ?? "is stopped and started"}`))));
  if (c.space?.length) out.push(table("Space that the update takes", ["Partition", { text: "Needed at most", number: true }, { text: "Free", number: true }, { text: "Then left", number: true }],
    c.space.map((s) => [s.partition, bytes(s.required), bytes(s.available), s.available < s.required ? `${bytes(s.required - s.available)} too little` : bytes(s.available - s.required)])));
  if (c.unknown?.length) out.push(el("div", { className: "note" }, el("p", {}, "Nobody can say whether this holds:"), el("ul", {}, ...c.unknown.map((text) => el("li", {}, text)))));
  return out;
}

function begin(empty, button) {
  attempt($("change-error"), async () => {
    await call("POST", `/cgi-bin/pvtx/begin${empty ? "?empty=true" : ""}`);
    say("The transaction has begun.");
    await refreshNow();
    $("file").focus();
  }, button);
}
$("begin").addEventListener("click", (e) => begin(false, e.target));
$("begin-empty").addEventListener("click", (e) => begin(true, e.target));

$("abort").addEventListener("click", (e) => {
  if (!confirm("Discard the transaction?")) return;
  attempt($("change-error"), async () => {
    await call("POST", "/cgi-bin/pvtx/abort");
    say("The transaction is discarded.");
    $("uploads").replaceChildren();
    await refreshNow();
    $("begin").focus();
  }, e.target);
});

// Uploads go one after another: each replaces parts of the one before.
let uploads = Promise.resolve();
function addFiles(files) {
  for (const file of files) {
    const bar = el("progress", { max: file.size || 1, value: 0, "aria-label": `Upload of ${file.name}` });
    const text = el("p", { role: "status" }, `${file.name}: waiting`);
    $("uploads").append(el("div", { className: "upload" }, text, bar));
    uploads = uploads.then(() => upload(file, bar, text)).then(loadTransaction);
  }
}

function upload(file, bar, text) {
  return new Promise((done) => {
    const x = new XMLHttpRequest();
    const end = (kindOf, said) => { text.className = kindOf; text.textContent = `${file.name}: ${said}`; bar.hidden = true; done(); };
    x.open("PUT", "/cgi-bin/pvtx/add");
    x.upload.onprogress = (e) => {
      bar.value = e.loaded;
      text.textContent = e.loaded < e.total ? `${file.name}: ${bytes(e.loaded)} of ${bytes(e.total)}` : `${file.name}: storing`;
    };
    x.onerror = () => end("error", "The device does not answer, or ended the transfer. Add the file again.");
    x.onload = () => {
      if (x.status === 200) return end("", `added, ${bytes(file.size)}`);
      let said = `The device answers ${x.status}.`;
      try { said = JSON.parse(x.responseText).error ?? said; } catch { /* as above */ }
      end("error", said);
    };
    x.send(file);
  });
}

$("file").addEventListener("change", (e) => { addFiles(e.target.files); e.target.value = ""; });
const drop = $("drop");
for (const type of ["dragenter", "dragover"]) drop.addEventListener(type, (e) => { e.preventDefault(); drop.classList.add("over"); });
for (const type of ["dragleave", "drop"]) drop.addEventListener(type, (e) => { e.preventDefault(); drop.classList.remove("over"); });
drop.addEventListener("drop", (e) => addFiles(e.dataTransfer.files));

$("when").addEventListener("change", () => {
  const when = $("when").value;
  for (const e of document.querySelectorAll("[data-for=window]")) e.hidden = when !== "window";
  $("window").required = when === "window";
  $("finish").textContent = { now: "Commit and run", never: "Commit" }[when] ?? "Commit and stage";
});

$("commit").addEventListener("submit", (e) => {
  e.preventDefault();
  attempt($("change-error"), async () => {
    await uploads;
    const { revision } = await call("POST", `/cgi-bin/pvtx/commit?${query({ message: $("note").value })}`);
    $("note").value = "";
    $("uploads").replaceChildren();
    say(`Revision ${revision} is stored.`);
    const when = { now: "", reboot: "reboot", window: $("window").value }[$("when").value];
    if (when !== undefined) await run(revision, when);
    $("status-h").tabIndex = -1;
    $("status-h").focus();
  }, $("finish"));
});

// run starts a revision. While another update is tested the device asks for patience, and
// this page tries again until it is let in.
let waiting = null;
async function run(revision, when) {
  waiting?.stop();
  const mine = { revision, stopped: false, stop() { this.stopped = true; $("waiting").hidden = true; queued.set(null); } };
  waiting = mine;
  const box = $("change-error");
  box.textContent = "";
  while (!mine.stopped) {
    try {
      await runOnce(revision, when);
      say(`Revision ${revision} is started.`);
      break;
    } catch (err) {
      if (err.status !== 503) { box.textContent = err.message; break; }
      queued.set({ revision, when });
      showWaiting();
      await new Promise((r) => setTimeout(r, 1000 * Math.min(err.after || 2, 5)));
    }
  }
  mine.stop();
  refresh();
}
$("waiting-stop").addEventListener("click", () => waiting?.stop());

// queued is what waits, which is still so when the page is loaded again.
const queued = {
  get() { try { return JSON.parse(localStorage.getItem("waiting")); } catch { return null; } },
  set(value) { try { value ? localStorage.setItem("waiting", JSON.stringify(value)) : localStorage.removeItem("waiting"); } catch { /* a browser that keeps nothing */ } },
};

function showWaiting() {
  if (!waiting || waiting.stopped || !queued.get()) return;
  const u = latest();
  const other = u && going.includes(u.status) ? `The update of ${u.revision} is ${u.status}` : "Another update is in progress";
  $("waiting-text").textContent = `${other}. ${waiting.revision} runs when that has ended, as long as this page is open.`;
  $("waiting").hidden = false;
}

// A device that does not know staged updates runs a revision by the older API.
async function runOnce(revision, when) {
  if (Array.isArray(overview?.updates)) return json("POST", "/app/api/updates", { revision, mode: "run", ...(when ? { when } : {}) });
  if (when) throw new Failure(400, "This device can run a revision only now.");
  return call("POST", `/cgi-bin/pvtx/run?${query({ rev: revision })}`);
}

// Containers.

function showContainers(o) {
  show($("containers-list"), o.containers, (list) => list?.length
    ? table("Containers", ["Container", "Group", "Status", "Actions"], list.map((c) => [c.name, c.group ?? "–", statusOf(c), actions(c)]))
    : el("p", { className: "quiet" }, "There are no containers."));
}

function statusOf(c) {
  const why = c.status_reason || (c.status !== c.status_goal && c.status_goal ? `goal ${c.status_goal}` : "");
  const left = timeLeft(c) && `, ${timeLeft(c)} left`;
  return el("span", {}, pill(c.status), why || left ? el("span", { className: "why" }, why + left) : null);
}

function actions(c) {
  if (c.restart_policy !== "container") return el("span", { className: "quiet" }, "restarts with the device");
  const stopped = c.status === "STOPPED" || c.user_stopped === "true";
  const button = (action, off) => el("button", {
    id: `${action}-${c.name}`, disabled: off, "aria-label": `${action} ${c.name}`,
    on: { click: (e) => attempt($("containers-error"), async () => { await json("PUT", `/app/api/containers/${encodeURIComponent(c.name)}`, { action }); say(`${c.name}: ${action}`); }, e.target) },
  }, action);
  return el("div", { className: "buttons" }, button("start", !stopped), button("stop", stopped), button("restart", stopped));
}

// Logs.

let reading = null;
const maxLog = 400_000; // characters kept on the page

async function listLogs() {
  const list = await call("GET", `/app/api/logs?${query({ rev: $("log-rev").value })}`);
  const before = $("log-source").value || "pantavisor/pantavisor.log";
  $("log-source").replaceChildren(...list.map((f) => el("option", { value: f.source }, `${f.source} (${bytes(f.size)})`)));
  if (list.some((f) => f.source === before)) $("log-source").value = before;
}

async function readLog() {
  reading?.abort();
  reading = new AbortController();
  const { signal } = reading, log = $("log");
  $("logs-error").textContent = "";
  if (!$("log-source").value) { log.textContent = ""; $("logs-error").textContent = "There are no logs of this revision."; return; }
  const follow = $("log-follow").checked;
  try {
    const r = await fetch(`/cgi-bin/logs?${query({ rev: $("log-rev").value, source: $("log-source").value, tail: true, follow, tailn: $("log-lines").value })}`, { signal });
    if (!r.ok) throw new Error((await r.json()).error);
    log.textContent = "";
    const stream = r.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let piece = await stream.read(); !piece.done; piece = await stream.read()) append(log, piece.value);
    if (follow) throw new Error("The log ended.");
  } catch (err) {
    if (signal.aborted) return;
    $("logs-error").textContent = follow ? "The log was interrupted; trying again." : err.message;
    if (follow) setTimeout(() => { if (!signal.aborted) readLog(); }, 3000);
  }
}

function append(log, text) {
  const end = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  log.append(text);
  if (log.textContent.length > maxLog) log.textContent = log.textContent.slice(-maxLog / 2);
  if (end) log.scrollTop = log.scrollHeight;
}

$("logs-form").addEventListener("change", (e) => attemptQuietly($("logs-error"), async () => {
  if (e.target.id === "log-rev") await listLogs();
  await readLog();
}));
$("logs-form").addEventListener("submit", (e) => e.preventDefault());

// Metadata.

const metaPath = {
  user: { save: (key, value) => call("POST", `/cgi-bin/pvtx/usermeta/save?${query({ key })}`, value), remove: (key) => call("PUT", `/cgi-bin/pvtx/usermeta/delete?${query({ key })}`) },
  device: { save: (key, value) => call("PUT", `/app/api/device-meta/${encodeURIComponent(key)}`, value), remove: (key) => call("DELETE", `/app/api/device-meta/${encodeURIComponent(key)}`) },
};

async function loadMeta() {
  await attemptQuietly($("metadata-error"), async () => {
    const all = await call("GET", "/cgi-bin/pvtx/get-config");
    for (const kindOf of ["user", "device"]) show($(`${kindOf}-meta`), all[kindOf], (pairs) => metaTable(kindOf, pairs));
  });
}

function metaTable(kindOf, pairs) {
  const keys = Object.keys(pairs ?? {}).sort();
  if (!keys.length) return el("p", { className: "quiet" }, "There is none.");
  return table(`Metadata of the ${kindOf}`, ["Key", "Value", "Actions"], keys.map((key) => {
    const value = typeof pairs[key] === "string" ? pairs[key] : JSON.stringify(pairs[key]);
    return [key, el("span", { className: "name" }, value), el("div", { className: "buttons" },
      el("button", { id: `edit-${kindOf}-${key}`, "aria-label": `Edit ${key}`, on: { click: () => editMeta(kindOf, key, value) } }, "Edit"),
      el("button", { id: `delete-${kindOf}-${key}`, "aria-label": `Delete ${key}`, on: { click: (e) => changeMeta(() => metaPath[kindOf].remove(key), `${key} is deleted.`, e.target) } }, "Delete"))];
  }));
}

function editMeta(kindOf, key, value) {
  $(`${kindOf}-key`).value = key;
  $(`${kindOf}-value`).value = value;
  $(`${kindOf}-value`).focus();
}

function changeMeta(fn, said, button) {
  attempt($("metadata-error"), async () => { await fn(); say(said); await loadMeta(); }, button);
}

for (const form of document.querySelectorAll(".meta-form")) {
  form.addEventListener("submit", (e) => {
    e.preventDefault();
    const kindOf = form.dataset.kind, key = $(`${kindOf}-key`).value.trim();
    changeMeta(async () => { await metaPath[kindOf].save(key, $(`${kindOf}-value`).value); form.reset(); }, `${key} is set.`);
  });
}

// Polling.

const fast = 1000, slow = 3000;
let timer = 0, asking = null;

function connected(up) {
  $("link").textContent = up ? "connected" : "no answer";
  $("link").dataset.kind = up ? "good" : "bad";
  $("lost").hidden = up;
  if (!up && $("lost").textContent === "") $("lost").textContent = "The device does not answer. It may be restarting; this page goes on when it is back.";
  if (up) $("lost").textContent = "";
}

async function refreshNow() {
  asking ??= poll().finally(() => { asking = null; });
  await asking;
}

async function poll() {
  clearTimeout(timer);
  let pause = slow;
  try {
    overview = await call("GET", "/app/api/overview");
    connected(true);
    showWarnings(overview);
    showStatus(overview);
    showTransaction(overview);
    showContainers(overview);
    showWaiting();
    if ($("revisions-box").open) await attemptQuietly($("revisions-error"), showRevisions);
    if (going.includes(overview.progress?.status) || going.includes(latest()?.status)) pause = fast;
  } catch (err) {
    if (err.status === 401) return; // until there is a token
    if (err.status !== 0) { $("lost").textContent = err.message; }
    connected(false);
  }
  timer = setTimeout(refresh, document.hidden ? 10 * slow : pause);
}

const refresh = () => { refreshNow(); };

function showWarnings(o) {
  show($("warnings"), [...o.warnings, ...o.problems], (list) => list.map((text) => el("p", { className: "note" }, text)));
}

document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
$("revisions-box").addEventListener("toggle", refresh);

async function start() {
  await refreshNow();
  if (!overview) { if ($("login").hidden) setTimeout(start, slow); return; }
  $("all").hidden = false;
  const left = queued.get();
  if (left) run(left.revision, left.when);
  await attemptQuietly($("logs-error"), async () => { await showRevisions(); await listLogs(); });
  readLog();
  loadMeta();
  setInterval(() => { if (!document.hidden && !$("all").hidden) loadMeta(); }, 10_000);
}

start();
