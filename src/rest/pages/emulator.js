// The terminal emulator, as the page needs it: colours of light and dark, links, wide letters.
import { FitAddon } from './addon-fit.mjs';
import { Unicode11Addon } from './addon-unicode11.mjs';
import { WebLinksAddon } from './addon-web-links.mjs';
import { Terminal } from './xterm.mjs';

// The emulator styles with style elements and style attributes, which the page's policy allows to nobody
// who does not know the nonce, and to attributes never. Both have equals that it does allow.
const nonce = document.getElementById('script').nonce;
const create = document.createElement.bind(document);
document.createElement = (name, options) => {
  const element = create(name, options);
  if (name === 'style') element.nonce = nonce;
  return element;
};
const setAttribute = Element.prototype.setAttribute;
HTMLElement.prototype.setAttribute = function (name, value) {
  if (name === 'style') this.style.cssText = value;
  else setAttribute.call(this, name, value);
};

export const screen = document.getElementById('screen');

const THEMES = {
  light: {
    background: '#ffffff', foreground: '#1c2128', cursor: '#0a58ca', cursorAccent: '#ffffff',
    selectionBackground: '#b6d4fe', black: '#24292f', red: '#b3202a', green: '#116329', yellow: '#7d4e00',
    blue: '#0550ae', magenta: '#8250df', cyan: '#1b6f79', white: '#6e7781', brightBlack: '#57606a',
    brightRed: '#c4222b', brightGreen: '#1a7f37', brightYellow: '#7d5200', brightBlue: '#0a58ca',
    brightMagenta: '#8a4fff', brightCyan: '#0f6f85', brightWhite: '#8c959f',
  },
  dark: {
    background: '#12161c', foreground: '#e6eaf0', cursor: '#7ab7ff', cursorAccent: '#12161c',
    selectionBackground: '#2f4f7d', black: '#4b5560', red: '#ff7b72', green: '#56d364', yellow: '#e3b341',
    blue: '#7ab7ff', magenta: '#d2a8ff', cyan: '#56d4dd', white: '#c9d1d9', brightBlack: '#8b96a3',
    brightRed: '#ffa198', brightGreen: '#7ee787', brightYellow: '#f2cc60', brightBlue: '#a5d0ff',
    brightMagenta: '#e2c5ff', brightCyan: '#8ae5ec', brightWhite: '#ffffff',
  },
};
const dark = matchMedia('(prefers-color-scheme: dark)');
const theme = () => (dark.matches ? THEMES.dark : THEMES.light);

const open = (url) => window.open(url, '_blank', 'noopener,noreferrer');
export const term = new Terminal({
  allowProposedApi: true,
  cursorBlink: true,
  fontFamily: 'ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace',
  fontSize: matchMedia('(max-width: 32rem)').matches ? 12 : 14,
  minimumContrastRatio: 4.5,
  scrollback: 5000,
  theme: theme(),
  screenReaderMode: localStorage.getItem('screen-reader') === 'yes',
  linkHandler: {
    // The text of such a link may say something else than where it goes.
    activate: (_, url) => /^https?:/i.test(url) && confirm(`Open ${url} ?`) && open(url),
  },
});
export const fit = new FitAddon();
term.loadAddon(fit);
term.loadAddon(new Unicode11Addon());
term.loadAddon(new WebLinksAddon((_, url) => open(url)));
term.unicode.activeVersion = '11';
term.open(screen);
dark.addEventListener('change', () => {
  term.options.theme = theme();
});
