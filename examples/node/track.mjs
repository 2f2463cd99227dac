// Tracks one object through a video, from the protos alone:
//
//   npm ci && node track.mjs localhost:50050 clip.mp4 110,262 > masks.jsonl
//
// Each line of the output is a frame: its index, its trace id, and the mask of each object as COCO RLE.
import {randomBytes} from 'node:crypto';
import {createReadStream} from 'node:fs';
import {fileURLToPath} from 'node:url';

import grpc from '@grpc/grpc-js';
import protoLoader from '@grpc/proto-loader';

const PROTOS = process.env.MASKMESH_PROTOS ?? fileURLToPath(new URL('../../protos', import.meta.url));
const CHUNK_BYTES = 1 << 20;

const [endpoint, video, click] = process.argv.slice(2);
if (!click) {
  console.error('usage: node track.mjs ENDPOINT VIDEO X,Y');
  process.exit(2);
}
const [x, y] = click.split(',').map(Number);

const definition = protoLoader.loadSync('maskmesh/v1/segmentation.proto', {
  includeDirs: [PROTOS],
  keepCase: true,
  defaults: true,
  longs: Number,
  enums: String,
  oneofs: true,
});
const {SegmentationService} = grpc.loadPackageDefinition(definition).maskmesh.v1;
const client = new SegmentationService(endpoint, grpc.credentials.createInsecure());

// W3C trace context: the services' spans become part of this trace, which an application's tracer would make.
const traceId = randomBytes(16).toString('hex');
const metadata = new grpc.Metadata();
metadata.set('traceparent', `00-${traceId}-${randomBytes(8).toString('hex')}-01`);

/** Makes a unary call. */
function call(method, request) {
  return new Promise((resolve, reject) => {
    client[method](request, metadata, (error, response) => (error ? reject(error) : resolve(response)));
  });
}

/** Uploads a video file in chunks, as fast as the gateway takes them. */
function upload(sessionId, path) {
  return new Promise((resolve, reject) => {
    const stream = client.AppendFrames(metadata, (error, response) => (error ? reject(error) : resolve(response)));
    stream.write({config: {session_id: sessionId}});
    const file = createReadStream(path, {highWaterMark: CHUNK_BYTES});
    file.on('data', (chunk) => {
      if (!stream.write({video_chunk: chunk})) {
        file.pause();
        stream.once('drain', () => file.resume());
      }
    });
    file.on('error', (error) => {
      stream.cancel();
      reject(error);
    });
    file.on('end', () => {
      stream.write({finish: {}});
      stream.end();
    });
  });
}

const {session_id: sessionId, model} = await call('CreateSession', {});
try {
  const frames = await upload(sessionId, video);
  console.error(`${model.name}: ${frames.num_frames} frames of ${frames.width} x ${frames.height}, trace ${traceId}`);
  await call('AddPrompt', {
    session_id: sessionId,
    frame_index: 0,
    obj_id: 1,
    prompt: {points: [{x, y, label: 'POINT_LABEL_POSITIVE'}]},
  });
  for await (const {frame} of client.PropagateVideo({session_id: sessionId}, metadata)) {
    const objects = frame.objects.map(({obj_id: objId, mask}) => ({
      obj_id: objId,
      size: [mask.rle.height, mask.rle.width],
      counts: mask.rle.counts.toString(),
    }));
    console.log(JSON.stringify({frame_index: frame.frame_index, trace_id: frame.trace_id, objects}));
  }
} finally {
  await call('DeleteSession', {session_id: sessionId});
  client.close();
}
