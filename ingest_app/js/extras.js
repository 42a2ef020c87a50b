// An optional second script, beside the tracker: forms, tagged elements, missing pages, and web vitals. docs/tracker.md
// describes it; `make tracker` builds what is served. It sends events through footfall(), which keeps them until they are
// on the server.
(function () {
  const without = (document.currentScript.dataset.without || '').split(/[\s,]+/)
  const has = (part) => !without.includes(part)
  const send = (name, options) => window.footfall?.(name, options)
  const on = (target, name, handler) => target.addEventListener(name, handler, true)

  /** Sends the event that the attributes of `element` name. */
  function sendTagged(element) {
    const { footfallEvent: name, ...data } = element.dataset
    const props = {}
    for (const key in data) {
      const [, prop] = /^footfallProp([A-Z].*)$/.exec(key) || []
      if (prop) props[prop[0].toLowerCase() + prop.slice(1)] = data[key]
    }
    send(name, { props })
  }

  for (const type of ['click', 'auxclick', 'submit']) {
    on(document, type, (event) => {
      const element = !(event.button > 1) && event.target.closest?.('[data-footfall-event]')
      const isForm = type == 'submit'
      if (element && (element.tagName == 'FORM') == isForm) {
        if (has('tagged')) sendTagged(element)
      } else if (isForm && has('forms')) {
        const form = event.target
        send('Form: Submission', { props: { form: form.id || form.getAttribute('name') || undefined } })
      }
    })
  }

  if (has('missing') && performance.getEntriesByType('navigation')[0]?.responseStatus == 404) send('404')

  // ---- Web vitals, as web.dev/articles/vitals defines them. ----

  const vitals = {}
  const activated = () => performance.getEntriesByType('navigation')[0]?.activationStart || 0

  function observe(type, handler, options) {
    try {
      new PerformanceObserver((list) => list.getEntries().forEach(handler)).observe({ type, buffered: true, ...options })
    } catch {} // a browser that does not measure it
  }

  /** Layout shifts within 5 s, with less than 1 s between two, add up. The largest sum counts. */
  function observeShifts() {
    let sum = 0
    let first = 0
    let last = 0
    vitals.CLS = PerformanceObserver.supportedEntryTypes?.includes('layout-shift') ? 0 : undefined
    observe('layout-shift', ({ hadRecentInput, startTime, value }) => {
      if (hadRecentInput) return
      if (startTime - last >= 1e3 || startTime - first >= 5e3) {
        sum = 0
        first = startTime
      }
      last = startTime
      sum += value
      vitals.CLS = Math.max(vitals.CLS, sum)
    })
  }

  /** The longest interaction, but for one of each 50 of the page. */
  function observeInteractions() {
    const longest = new Map() // by interaction, ms
    observe(
      'event',
      ({ interactionId, duration }) => {
        if (!interactionId) return
        longest.set(interactionId, Math.max(longest.get(interactionId) || 0, duration))
        const count = performance.interactionCount || longest.size
        const sorted = [...longest.values()].sort((a, b) => b - a)
        vitals.INP = sorted[Math.min(sorted.length - 1, Math.floor(count / 50))]
        if (longest.size > 200) longest.delete([...longest].sort((a, b) => a[1] - b[1])[0][0])
      },
      { durationThreshold: 16 },
    )
  }

  function sendVitals() {
    if (document.visibilityState != 'hidden' || vitals.LCP == null) return
    const { LCP, INP, CLS } = vitals
    const props = { LCP: Math.round(LCP), INP, CLS: CLS && Math.round(CLS * 1e4) / 1e4 }
    send('Web Vitals', { props, interactive: false })
    removeEventListener('visibilitychange', sendVitals, true)
  }

  if (has('vitals') && document.visibilityState == 'visible') {
    let isFinal = false // what is painted after an interaction does not count
    for (const type of ['keydown', 'pointerdown']) on(window, type, () => (isFinal = true))
    observe('largest-contentful-paint', ({ startTime }) => {
      if (!isFinal) vitals.LCP = Math.max(startTime - activated(), 0)
    })
    observeShifts()
    observeInteractions()
    on(window, 'visibilitychange', sendVitals) // before the tracker's own listener, which flushes its queue
  }
})()
