// One workspace: follows the logs of its agents, and asks which ports they have open.
import './live.js';
import { offer } from './copy.js';
import { Backoff, socketUrl } from './socket.js';

// Lines of one log that are kept on the page.
const LINES = 2000;
const PORTS_EVERY_MS = 10000;
// Ports that are listed.
const PORTS = 100;
// Ports below it need special rights on one's own machine.
const FIRST_FREE_PORT = 1024;

// Text of a machine without what steers terminals.
const STEERING = /\x1b\[[0-?]*[ -/]*[@-~]?|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?|[\x00-\x08\x0b-\x1f\x7f-\x9f]/g;

function follow(log) {
  const backoff = new Backoff();
  let after = log.dataset.after;
  const open = () => {
    const socket = new WebSocket(socketUrl(`/api/v2/workspaceagents/${log.dataset.log}/logs`, { follow: '', after }));
    socket.addEventListener('open', () => backoff.reset());
    socket.addEventListener('message', (event) => {
      const lines = JSON.parse(event.data);
      if (lines.length === 0) return;
      after = String(lines[lines.length - 1].id);
      add(log, lines);
    });
    // 1000: the agent is gone. 1008: nobody is signed in any more. The page itself says so.
    socket.addEventListener('close', (event) => {
      if (event.code !== 1000 && event.code !== 1008) backoff.then(open);
    });
  };
  log.scrollTop = log.scrollHeight;
  open();
}

function add(log, lines) {
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 8;
  const rows = lines.slice(-LINES).map((line) => {
    const row = document.createElement('div');
    row.className = line.level;
    const time = document.createElement('time');
    time.textContent = line.created_at.slice(11, 19);
    row.append(time, ` ${line.output.replace(STEERING, '')}`);
    return row;
  });
  log.append(...rows);
  for (let spare = log.childElementCount - LINES; spare > 0; spare -= 1) log.firstElementChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

function some(count) {
  if (count === 0) return 'None.';
  return count > PORTS ? `The first ${PORTS} of ${count}:` : '';
}

function watchPorts(section) {
  const box = section.querySelector('.ports');
  const said = box.querySelector('p');
  const list = box.querySelector('ul');
  const state = section.querySelector('[data-connected]');
  let shown = '';
  const show = (sentence, ports) => {
    box.hidden = false;
    if (said.textContent !== sentence) said.textContent = sentence;
    said.hidden = sentence === '';
    const now = JSON.stringify(ports);
    if (now === shown) return;
    shown = now;
    list.replaceChildren(...ports.map((port) => row(port, section.dataset.target)));
    for (const code of list.querySelectorAll('code')) offer(code);
  };
  const look = async () => {
    if (document.hidden) return;
    if (state.dataset.connected !== 'yes') {
      show('They can be seen when the agent is connected.', []);
      return;
    }
    try {
      const answer = await fetch(`/api/v2/workspaceagents/${section.dataset.agent}/listening-ports`, {
        signal: AbortSignal.timeout(PORTS_EVERY_MS),
      });
      const body = await answer.json();
      if (!answer.ok) show(body.message, []);
      else show(some(body.ports.length), body.ports.sort((a, b) => a.port - b.port).slice(0, PORTS));
    } catch {
      show('The agent did not say in time which ports are open.', []);
    }
  };
  const again = () => look().finally(() => setTimeout(again, PORTS_EVERY_MS));
  again();
}

function row(port, target) {
  const item = document.createElement('li');
  const name = document.createElement('span');
  const number = document.createElement('strong');
  number.textContent = String(port.port);
  name.append(number, port.process_name ? ` ${port.process_name}` : '');
  const code = document.createElement('code');
  code.className = 'code';
  const local = port.port < FIRST_FREE_PORT ? `${port.port + 10000}:` : '';
  code.textContent = `coder port-forward ${target} --tcp ${local}${port.port}`;
  item.append(name, code);
  return item;
}

for (const log of document.querySelectorAll('.log')) follow(log);
for (const section of document.querySelectorAll('section[data-agent]')) watchPorts(section);
