// Package media decodes pictures and clips to 8-bit RGB for the vision path.
//
// Pictures: PNG, JPEG (CMYK and YCCK too), GIF, WebP, BMP and TIFF. The first
// frame of an animated file counts. Clips: a folder of pictures (in the order
// of their names, numbers by value), animated GIF, APNG and WebP, Motion JPEG,
// YUV4MPEG2 (.y4m); anything else goes through an ffmpeg found on PATH.
//
// Decisions where readers differ:
//
//   - Transparent pixels are laid over white, as vLLM does; PIL's
//     convert("RGB") would show whatever colour is hidden below alpha 0.
//   - The EXIF orientation of JPEG is applied, as transformers' load_image and
//     vLLM do.
//   - Colour profiles are ignored. 16-bit channels keep their high byte.
//   - CMYK is converted without a profile, as PIL does.
//   - Y4M is BT.601, limited range unless the header says XCOLORRANGE=FULL.
//
// Input is hostile: sizes are checked against Limits before anything of that
// size is allocated, clips are decoded one frame at a time, and every failure
// is an *Error with a sentence that names the file, never a panic.
package media
