// Puts a button beside each line that is there to be copied.

// Clipboards of browsers are for pages of https and localhost; elsewhere a selection is copied as by hand.
export async function copy(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = document.createElement('textarea');
  area.value = text;
  area.className = 'away';
  document.body.append(area);
  area.select();
  const done = document.execCommand('copy');
  area.remove();
  if (!done) throw new Error('the browser refuses');
}

export function offer(code) {
  const box = document.createElement('div');
  box.className = 'copyable';
  code.replaceWith(box);
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'plain';
  button.textContent = 'Copy';
  button.setAttribute('aria-label', `Copy: ${code.classList.contains('secret') ? 'the token' : code.textContent}`);
  const said = document.createElement('span');
  said.className = 'away';
  said.setAttribute('role', 'status');
  button.addEventListener('click', async () => {
    let word = 'Copied';
    try {
      await copy(code.textContent);
    } catch {
      word = 'Select it by hand';
    }
    button.textContent = said.textContent = word;
    setTimeout(() => {
      button.textContent = 'Copy';
      said.textContent = '';
    }, 2000);
  });
  box.append(code, button, said);
}

for (const code of document.querySelectorAll('code.code')) offer(code);
