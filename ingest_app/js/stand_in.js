// Stands in for the scripts of Plausible and Umami, so that pages need no change. ingest_app/js/build.py puts this file
// before footfall.js. It translates the attributes of the script tag into those of footfall.js, and provides plausible()
// and umami. Events go to the address to which the other script sends its own, so a proxy that forwards the two paths of
// the other system needs no change either.
(function () {
  const script = document.currentScript
  const data = script.dataset
  const name = script.src.split(/[?#]/)[0].split('/').pop() // script.hash.manual.js
  const base = script.src.replace(/(\/js)?\/[^/]*$/, '')

  const at = (url) => url && { url: new URL(url, location).href }

  /** The attributes of `element` that begin with `prefix`, without it. */
  function attributes(element, prefix) {
    const found = [...element.attributes].filter(({ name }) => name.startsWith(prefix))
    return Object.fromEntries(found.map(({ name, value }) => [name.slice(prefix.length), value]))
  }

  /** Calls `handler` with the closest element that matches `selector` for each click, and with a form when it is sent. */
  function onUse(selector, handler) {
    for (const type of ['click', 'auxclick', 'submit']) {
      const listen = (event) => {
        const element = !(event.button > 1) && event.target.closest?.(selector)
        if (element && (element.tagName == 'FORM') == (type == 'submit')) handler(element)
      }
      document.addEventListener(type, listen, true)
    }
  }

  function stored(key) {
    try {
      return localStorage[key]
    } catch {} // denied
  }

  /** Returns whether nothing is counted on this page. */
  function standInForUmami() {
    data.site = data.websiteId
    data.endpoint = (data.hostUrl || base).replace(/\/$/, '') + '/api/send'
    if (data.autoTrack == 'false') data.manual = ''
    if (data.doNotTrack == 'true') data.dnt = ''

    let visitor // the id that the page gave
    const about = () => ({
      hostname: location.hostname,
      language: navigator.language,
      referrer: document.referrer,
      screen: screen.width + 'x' + screen.height,
      title: document.title,
      url: location.href,
      website: data.websiteId,
    })
    const send = ({ name = 'pageview', data: props, url, referrer, id = visitor }) =>
      window.footfall(name, { props, ...at(url), ...(referrer && { referrer }), user_id: id })

    window.umami = {
      async track(what = {}, props) {
        if (typeof what == 'function') what = what(about())
        send(typeof what == 'string' ? { name: what, data: props } : what)
      },
      async identify(id) {
        if (typeof id == 'string') visitor = id
      },
    }
    onUse('[data-umami-event]', (element) =>
      send({ name: element.dataset.umamiEvent, data: attributes(element, 'data-umami-event-') }),
    )
    const isOther = data.domains && !data.domains.split(/\s*,\s*/).includes(location.hostname)
    return isOther || stored('umami.disabled')
  }

  /** Returns whether nothing is counted on this page. */
  function standInForPlausible() {
    data.site = data.domain ?? data.site
    data.endpoint = data.api || new URL(script.src).origin + '/api/event'
    if (/\.hash\./.test(name)) data.hash = ''
    if (/\.manual\./.test(name)) data.manual = ''

    const pageProps = attributes(script, 'event-')
    const translated = ({ callback, u, url, ...options } = {}) => {
      if (callback) setTimeout(callback, 0, { status: 202 }) // the event is in the queue, which outlives the page
      return { ...options, ...at(u || url), props: { ...pageProps, ...options.props } }
    }
    const early = window.plausible?.q || []
    window.footfall = { props: pageProps, q: early.map(([name, options]) => [name, translated(options)]) }
    window.plausible = (name, options) => window.footfall(name, translated(options))

    onUse('[class*="plausible-event-name"]', (element) => {
      const given = {}
      for (const item of element.classList) {
        const [, key, value] = /^plausible-event-(.+?)(?:=|--)(.+)$/.exec(item) || []
        if (key) given[key] = value.replace(/\+/g, ' ')
      }
      const { name, ...props } = given
      window.plausible(name, { props })
    })
    const isLocal = /^(localhost|127(\.\d+){0,2}\.\d+|\[::1?\])$/.test(location.hostname) || location.protocol == 'file:'
    return (isLocal && !/\.local\./.test(name)) || stored('plausible_ignore') == 'true'
  }

  if ((data.websiteId ? standInForUmami : standInForPlausible)()) data.exclude = '**'
})()
