// Keeps a page up to date: asks for it again, and puts in what differs. The server writes everything that
// is shown, so it is shown the same way without this script. One request serves the whole page, however
// many agents it has: browsers open only six connections to a server, and streams would fill them.
import './copy.js';

// Between an answer and the next question. Hidden pages do not ask.
const PAUSE_MS = 2000;
// A slow server is asked less: it may spend this part of its time on the page.
const SHARE = 0.1;
const PATIENCE_MS = 15000;

const status = document.getElementById('live');
const parts = (page) => new Map([...page.querySelectorAll('[data-live]')].map((part) => [part.dataset.live, part]));
const shapeOf = (known) => [...known.keys()].join(' ');

let timer = 0;
let failures = 0;

async function look() {
  clearTimeout(timer);
  const began = performance.now();
  try {
    const answer = await fetch(`${location.pathname}?live`, {
      headers: { Accept: 'text/html' },
      cache: 'no-store',
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    if (answer.redirected || answer.status === 404) {
      // Signed out, or the workspace is gone: the server says it better.
      location.reload();
      return;
    }
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    update(new DOMParser().parseFromString(await answer.text(), 'text/html'));
    if (failures > 1) status.textContent = '';
    failures = 0;
  } catch {
    failures += 1;
    if (failures === 2) status.textContent = 'The server does not answer. What you see may be old; this page keeps trying.';
  }
  if (!document.hidden) {
    const took = performance.now() - began;
    timer = setTimeout(look, Math.max(PAUSE_MS * Math.min(failures + 1, 5), took / SHARE));
  }
}

function update(page) {
  const fresh = parts(page);
  const shown = parts(document);
  if (shapeOf(fresh) !== shapeOf(shown)) {
    // Something was added or removed. Not more than once in a while, whatever happens.
    const last = Number(sessionStorage.getItem('reloaded') ?? 0);
    if (Date.now() - last > 10000) {
      sessionStorage.setItem('reloaded', String(Date.now()));
      location.reload();
    }
    return;
  }
  const said = [];
  for (const [key, part] of fresh) {
    const old = shown.get(key);
    if (part.dataset.connected) old.dataset.connected = part.dataset.connected;
    if (old.innerHTML === part.innerHTML) continue;
    if (old.dataset.say) said.push(`${old.dataset.say}: ${part.textContent}`);
    old.replaceChildren(...part.cloneNode(true).childNodes);
  }
  if (said.length > 0) announce(said.join('. '));
}

// For people who do not see the page.
const voice = document.createElement('p');
voice.className = 'away';
voice.setAttribute('role', 'status');
document.body.append(voice);
function announce(sentence) {
  voice.textContent = sentence;
}

document.addEventListener('visibilitychange', () => {
  if (document.hidden) clearTimeout(timer);
  else look();
});
window.addEventListener('online', look);
timer = setTimeout(look, PAUSE_MS);
