// A terminal on a machine. The page's address names the shell (`reconnect`), so that a reload returns to it.
import { copy } from './copy.js';
import { fit, screen, term } from './emulator.js';
import { Backoff, socketUrl } from './socket.js';

// How long a shell may say nothing before the page says so.
const SILENT_MS = 3000;
// How long an attempt to connect may take.
const PATIENCE_MS = 15000;
// Characters of one message of input: a long paste goes in pieces.
const PIECE = 4096;
// Bytes of output that may wait to be drawn; the emulator throws away more than 50 MB. A machine cannot be
// told to wait, but a terminal can be left, and it shows its newest screen to those who come back.
const WAITING_BYTES = 24 * 1024 * 1024;
// Text that a program may put on the clipboard, in characters of base64.
const CLIPBOARD_CHARS = 1024 * 1024;
// Who comes back to a shell is first shown what it has printed before: so many bytes at most, in one go
// (agent/reconnectingpty/buffered.go, v2.24.0). Questions in it, such as where the cursor stands, were answered then;
// another answer would be typed into whatever runs now.
const REPLAY_BYTES = 64 * 1024;
const REPLAY_MS = 300;
// What the emulator answers by itself.
const ANSWER = /^\x1b(?:\[[?>=]?[\d;]*(?:\$y|[cnRt])|[\]P_])/;
// A gap between two ticks as long as this means that the machine slept.
const TICK_MS = 5000;
const SLEPT_MS = 30000;

const body = document.body.dataset;
const stateLine = document.getElementById('state');
const againButton = document.getElementById('again');
const copyButton = document.getElementById('copy');
const readerButton = document.getElementById('reader');
const query = new URLSearchParams(location.search);

// ---- The shell at the other end

const encoder = new TextEncoder();
const backoff = new Backoff();
let shell = query.get('reconnect') ?? '';
let socket = null;
// What Enter does when nothing is connected.
let onEnter = null;
let runsCommand = false;
let locked = false;
// The shell has printed something before this connection.
let known = false;
// Messages of what it has printed before that are not drawn yet.
let replaying = 0;

function say(kind, sentence) {
  if (stateLine.textContent !== sentence) stateLine.textContent = sentence;
  stateLine.className = `state ${kind}`;
  document.body.dataset.state = kind;
}

function send(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(encoder.encode(JSON.stringify(message)));
}

function sendSize() {
  send({ height: term.rows, width: term.cols });
}

function rename(id) {
  known = id === shell;
  shell = id;
  query.set('reconnect', id);
  history.replaceState(null, '', `${location.pathname}?${query}`);
}

// A UUID; `crypto.randomUUID` is for https and localhost only.
function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}

function parameters() {
  const wanted = { reconnect: shell, height: String(term.rows), width: String(term.cols) };
  if (runsCommand) wanted.command = query.get('command');
  for (const name of ['container', 'container_user', 'backend_type']) {
    if (query.get(name)) wanted[name] = query.get(name);
  }
  return wanted;
}

function connect() {
  if (locked) return;
  backoff.cancel();
  leave();
  onEnter = null;
  againButton.hidden = true;
  say('wait', 'Connecting');
  const mine = new WebSocket(socketUrl(`/api/v2/workspaceagents/${body.agent}/pty`, parameters()));
  mine.binaryType = 'arraybuffer';
  socket = mine;
  let opened = false;
  let heard = false;
  let replay = known ? REPLAY_BYTES : 0;
  let replayEnd = 0;
  let waiting = 0;
  let silence = setTimeout(() => mine.close(), PATIENCE_MS);
  mine.addEventListener('open', () => {
    opened = true;
    clearTimeout(silence);
    silence = setTimeout(() => say('wait', 'Connected, but the shell has said nothing yet'), SILENT_MS);
    sendSize();
  });
  mine.addEventListener('message', (event) => {
    if (socket !== mine) return;
    if (!heard) {
      heard = true;
      known = true;
      replayEnd = performance.now() + REPLAY_MS;
      clearTimeout(silence);
      backoff.reset();
      // What comes first is the screen as it is, which must not be drawn upon an older one.
      term.reset();
      say('good', 'Connected');
    }
    const bytes = new Uint8Array(event.data);
    waiting += bytes.length;
    const old = replay > 0 && performance.now() < replayEnd;
    replay -= bytes.length;
    if (old) replaying += 1;
    term.write(bytes, () => {
      waiting -= bytes.length;
      if (old) replaying -= 1;
      if (waiting === 0 && socket === null && !locked) backoff.hurry();
    });
    if (waiting > WAITING_BYTES) {
      leave();
      say('wait', 'More output than can be drawn; some of it is left out');
      backoff.then(connect);
    }
  });
  mine.addEventListener('close', (event) => {
    clearTimeout(silence);
    if (socket !== mine) return;
    socket = null;
    closed(event, opened);
  });
}

function leave() {
  const old = socket;
  socket = null;
  old?.close();
}

// Says why there is no connection, and does what can be done about it.
async function closed(event, opened) {
  if (event.code === 1000) {
    ended();
  } else if (event.code === 1008 || !opened) {
    await explain(event);
  } else {
    const reason = event.reason ? `: ${event.reason}` : '';
    retry(`Connection lost${reason}`);
  }
}

function ended() {
  const again = () => {
    rename(newId());
    if (runsCommand) sessionStorage.setItem(`runs ${shell}`, query.get('command'));
    connect();
  };
  onEnter = again;
  const what = runsCommand ? 'The command has ended. Press Enter to run it again' : 'The shell has ended. Press Enter for a new one';
  say('bad', what);
  term.write(`\r\n\x1b[2m[${what}]\x1b[0m\r\n`);
}

function retry(sentence) {
  const wait = backoff.then(connect);
  say('bad', `${sentence}. Trying again${wait > 1500 ? ` in ${Math.round(wait / 1000)} s` : ''}`);
  onEnter = connect;
  againButton.hidden = false;
}

// Browsers do not show scripts why a WebSocket was refused; the same question as a plain request has an answer.
async function explain(event) {
  const patience = { signal: AbortSignal.timeout(PATIENCE_MS), headers: { Accept: 'application/json' }, cache: 'no-store' };
  try {
    const me = await fetch('/api/v2/users/me', patience);
    if (me.status === 401) {
      lock();
      return;
    }
    const path = new URL(`/api/v2/workspaceagents/${body.agent}/pty`, location.href);
    path.search = new URLSearchParams(parameters()).toString();
    const answer = await fetch(path, patience);
    if (answer.status === 426) {
      // Then a WebSocket would be let through now, or something between here and there does not know them.
      retry(event.reason ? `Closed: ${event.reason}` : 'No connection');
      return;
    }
    const { message, detail } = await answer.json();
    const sentence = message.replace(/\.$/, '');
    if (answer.status === 404 || answer.status === 400 || answer.status === 501) {
      say('bad', detail ? `${sentence}: ${detail}` : sentence);
      onEnter = connect;
      againButton.hidden = false;
    } else if (answer.status === 502) {
      retry('The agent is away; this terminal comes back with it');
    } else {
      retry(sentence);
    }
  } catch {
    retry('The server does not answer');
  }
}

// Nobody is signed in any more: what was on the screen is not for who comes next.
function lock() {
  locked = true;
  leave();
  backoff.cancel();
  term.reset();
  screen.hidden = true;
  againButton.hidden = true;
  say('bad', 'You are signed out');
  const link = document.createElement('a');
  link.href = `/login?redirect=${encodeURIComponent(location.pathname + location.search)}`;
  link.textContent = 'Sign in again';
  link.className = 'button';
  document.getElementById('main').append(link);
  link.focus();
}

// ---- Keys, paste, copy

function type(text) {
  if (socket?.readyState === WebSocket.OPEN) {
    for (let at = 0; at < text.length; ) {
      let end = Math.min(at + PIECE, text.length);
      // Not between the halves of one character.
      if (end < text.length && (text.charCodeAt(end - 1) & 0xfc00) === 0xd800) end -= 1;
      send({ data: text.slice(at, end) });
      at = end;
    }
  } else if (text.includes('\r') && onEnter) {
    onEnter();
  }
}
term.onData((text) => {
  if (replaying === 0 || !ANSWER.test(text)) type(text);
});
term.onBinary(type);

async function copySelection() {
  const text = term.getSelection();
  if (text) await copy(text).catch(() => offerCopy(text));
  term.focus();
}

// For what a browser lets nobody copy but who presses a button.
function offerCopy(text) {
  copyButton.hidden = false;
  copyButton.onclick = async () => {
    copyButton.hidden = true;
    await copy(text).catch(() => say('bad', 'The browser does not let this page copy'));
    term.focus();
  };
}

term.attachCustomKeyEventHandler((event) => {
  const key = event.key.toLowerCase();
  const both = event.ctrlKey && event.shiftKey && !event.altKey && !event.metaKey;
  if ((both && key === 'c') || (event.ctrlKey && !event.shiftKey && key === 'insert')) {
    if (event.type === 'keydown') copySelection();
    event.preventDefault();
    return false;
  }
  // Left to the browser, which pastes.
  if ((both && key === 'v') || (event.shiftKey && !event.ctrlKey && key === 'insert')) return false;
  if (event.ctrlKey && event.key === 'F6') {
    if (event.type === 'keydown') document.getElementById('leave').focus();
    event.preventDefault();
    return false;
  }
  return true;
});

// Programs put text on the clipboard (OSC 52), and never see what is there.
term.parser.registerOscHandler(52, (data) => {
  const encoded = data.slice(data.indexOf(';') + 1);
  if (encoded === '?' || encoded.length > CLIPBOARD_CHARS) return true;
  try {
    const text = new TextDecoder().decode(Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0)));
    if (navigator.clipboard && document.hasFocus()) navigator.clipboard.writeText(text).catch(() => offerCopy(text));
    else offerCopy(text);
  } catch {
    // Not base64: nothing to be copied.
  }
  return true;
});

// ---- Size, sleep, buttons

let resizing = 0;
new ResizeObserver(() => {
  clearTimeout(resizing);
  resizing = setTimeout(() => !locked && fit.fit(), 50);
}).observe(document.getElementById('main'));
term.onResize(sendSize);

window.addEventListener('online', () => backoff.hurry());
let ticked = Date.now();
setInterval(() => {
  const gap = Date.now() - ticked;
  ticked = Date.now();
  // After a sleep the connection may be dead without knowing; coming back to the same shell costs nothing.
  if (gap > SLEPT_MS && !locked && !document.hidden) connect();
}, TICK_MS);
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) backoff.hurry();
});
againButton.addEventListener('click', () => {
  (onEnter ?? connect)();
  term.focus();
});
readerButton.setAttribute('aria-pressed', String(term.options.screenReaderMode));
readerButton.addEventListener('click', () => {
  const on = !term.options.screenReaderMode;
  term.options.screenReaderMode = on;
  localStorage.setItem('screen-reader', on ? 'yes' : 'no');
  readerButton.setAttribute('aria-pressed', String(on));
  term.focus();
});

// ---- The beginning

// A link may carry a command, and whoever made the link is not the one who is signed in.
async function confirmed(command) {
  const key = `runs ${shell}`;
  if (sessionStorage.getItem(key) === command) return true;
  const dialog = document.getElementById('ask');
  document.getElementById('command').textContent = command;
  dialog.showModal();
  await new Promise((resolve) => {
    dialog.addEventListener('close', resolve, { once: true });
  });
  return dialog.returnValue === 'run';
}

async function begin() {
  const isNew = !/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(shell);
  const command = query.get('command');
  if (command) {
    say('wait', 'Waiting for your answer');
    runsCommand = await confirmed(command);
    if (!runsCommand) query.delete('command');
  }
  // With a shell's id from elsewhere, a command that was just agreed to might meet a shell that runs already.
  rename(isNew || (runsCommand && !sessionStorage.getItem(`runs ${shell}`)) ? newId() : shell);
  if (runsCommand) sessionStorage.setItem(`runs ${shell}`, command);
  fit.fit();
  term.focus();
  connect();
}
begin();
