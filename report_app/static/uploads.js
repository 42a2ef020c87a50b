// Sends a file in parts, because a request has at most 5 MB. Without this script, the form itself sends smaller files.
'use strict'

const form = document.querySelector('form[data-part]')
const progress = form.querySelector('progress')
const failed = form.querySelector('[role=alert]')
const TRIES = 3

form.addEventListener('submit', (event) => {
  const [file] = form.elements.file.files
  if (!file || file.size <= Number(form.dataset.part)) return
  event.preventDefault()
  form.querySelector('button').disabled = true
  failed.hidden = true
  progress.hidden = false
  send(file).then(() => location.reload(), () => {
    form.querySelector('button').disabled = false
    failed.hidden = false
    progress.hidden = true
  })
})

async function send (file) {
  if (file.size > Number(form.dataset.most)) throw new Error('too large')
  const size = Number(form.dataset.part)
  const count = Math.ceil(file.size / size)
  let uploadId = ''
  progress.max = count
  for (let part = 0; part < count; part++) {
    progress.value = part
    const body = new FormData()
    body.append('csrf_token', form.elements.csrf_token.value)
    body.append('upload_id', uploadId)
    body.append('part', part)
    if (part < count - 1) body.append('more', 'on')
    body.append('file', file.slice(part * size, (part + 1) * size), file.name)
    uploadId = await post(body)
  }
}

// The last part is answered with a redirect, which the reload of the page follows.
async function post (body) {
  for (let left = TRIES; ; left--) {
    const answer = await fetch(form.action, { method: 'POST', body, redirect: 'manual' }).catch(() => null)
    if (answer?.type === 'opaqueredirect') return ''
    if (answer?.ok) return (await answer.json()).upload_id
    if (left === 1 || (answer && answer.status < 500)) throw new Error('not uploaded')
    await new Promise((resolve) => setTimeout(resolve, 1000))
  }
}
