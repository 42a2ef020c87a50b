// Compares the pictures that two folders have under the same name. For each one that differs, it prints the name and the
// share of the pixels that differ, and writes the picture with these pixels in red into a third folder.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import pixelmatch from "pixelmatch";
import { PNG } from "pngjs";

const [before, after, marked] = process.argv.slice(2);

// The picture on an area that is as large as both. What it has not is in a colour that no page has.
function onArea(picture, { width, height }) {
  if (picture.width === width && picture.height === height) return picture;
  const area = new PNG({ width, height });
  for (let i = 0; i < area.data.length; i += 4) area.data.set([255, 0, 255, 255], i);
  PNG.bitblt(picture, area, 0, 0, picture.width, picture.height, 0, 0);
  return area;
}

const known = new Set(readdirSync(before));
for (const name of readdirSync(after).filter((name) => name.endsWith(".png") && known.has(name))) {
  const files = [before, after].map((folder) => readFileSync(join(folder, name)));
  if (files[0].equals(files[1])) continue;
  const pictures = files.map((file) => PNG.sync.read(file));
  const size = { width: Math.max(...pictures.map((each) => each.width)), height: Math.max(...pictures.map((each) => each.height)) };
  const [one, other] = pictures.map((each) => onArea(each, size));
  const shown = new PNG(size);
  const count = pixelmatch(one.data, other.data, shown.data, size.width, size.height);
  if (!count) continue;
  writeFileSync(join(marked, name), PNG.sync.write(shown));
  console.log(JSON.stringify([name, count / (size.width * size.height)]));
}
