// Without links to each route: Swagger UI puts them into the buttons of the routes, where assistive technology cannot
// reach them.
SwaggerUIBundle({ url: "openapi.json", dom_id: "#page", validatorUrl: null, defaultModelsExpandDepth: 0,
  tryItOutEnabled: false, syntaxHighlight: { theme: "idea" } });
