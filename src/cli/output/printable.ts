/**
 * A text without control characters, so that names, labels and messages that come from guests, registries or servers
 * cannot drive the user's terminal. `lines` keeps line breaks and tabs.
 */
export function printable(text: string, options: { readonly lines?: boolean } = {}): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this is about
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g, (character) =>
    options.lines && (character === '\n' || character === '\t') ? character : '\ufffd',
  );
}
