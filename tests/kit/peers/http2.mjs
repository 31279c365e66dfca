// node http2.mjs PORT: answers /200 with 200 and so on, with a trailer; /103 with 103, then 200.
import http2 from 'node:http2'

const BODY = 'x'.repeat(100)
let answered = 0

const server = http2.createServer({ settings: { maxConcurrentStreams: 1000 } })
server.on('stream', (stream, headers) => {
  let status = Number(headers[':path'].slice(1))
  if (status === 103) {
    stream.additionalHeaders({ ':status': 103, link: '</style.css>; rel=preload' })
    status = 200
  }
  // A value that is never the same pushes others out of the table.
  const response = { ':status': status, 'x-number': String(answered++) }
  if (status === 204 || status === 304) {
    stream.respond(response, { endStream: true })
    return
  }
  stream.respond(response, { waitForTrailers: true })
  stream.on('wantTrailers', () => stream.sendTrailers({ 'x-length': '100' }))
  stream.end(BODY)
})
server.listen(Number(process.argv[2]), '::')
