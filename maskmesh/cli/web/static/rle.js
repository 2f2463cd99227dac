// COCO's compressed run lengths: runs in column order, background first, as differences in base 32.
export function runsOf(counts) {
  const runs = [];
  for (let i = 0; i < counts.length;) {
    let value = 0, shift = 0, more = true;
    while (more) {
      const digit = counts.charCodeAt(i++) - 48;
      value |= (digit & 31) << shift;
      shift += 5;
      more = (digit & 32) !== 0;
      if (!more && digit & 16 && shift < 32) value |= -1 << shift;
    }
    if (runs.length > 2) value += runs[runs.length - 2];
    runs.push(value);
  }
  return runs;
}

// A mask as an image in one colour: [red, green, blue].
export function maskImage(counts, width, height, colour, opacity) {
  const image = new ImageData(width, height), pixels = new Uint32Array(image.data.buffer);
  const [red, green, blue] = colour;
  const value = (Math.round(opacity * 255) << 24 | blue << 16 | green << 8 | red) >>> 0;
  let at = 0, inside = false;
  for (const run of runsOf(counts)) {
    if (inside)
      for (let i = at; i < at + run; i++) pixels[(i % height) * width + Math.floor(i / height)] = value;
    at += run;
    inside = !inside;
  }
  return image;
}

export function area(counts) {
  return runsOf(counts).reduce((sum, run, i) => sum + (i % 2 ? run : 0), 0);
}
